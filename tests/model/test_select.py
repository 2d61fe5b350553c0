"""The ranking changes when it should: smaller machine, commercial use, longer rows, near domain."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sftprep.errors import Interrupted, ModelError
from sftprep.model.aspects import context_aspect, domain_aspect, tokenizer_aspect
from sftprep.model.catalogue import facts_for
from sftprep.model.hardware import parse_hardware
from sftprep.model.ranking import select_stage
from sftprep.model.sample import QUANTILES, TokenFit, sample_rows, token_fit
from sftprep.model.select import RankedModel, select
from sftprep.progress import Progress
from sftprep.recipe.load import load_recipe
from sftprep.recipe.sections import Recipe
from sftprep.stop import StopSignal
from sftprep.store.durable import read_json
from sftprep.store.run import RunFolder

Folder = Callable[..., Path]
CATALOGUE_RECIPE = (
    "model: {{base: Qwen/Qwen2.5-0.5B, candidates: [{names}]}}\ndata: {{sources: [{rows}]}}\n"
)


def recipe_for(
    tmp_path: Path, rows: Path, names: str = "catalogue", overrides: Sequence[str] = ()
) -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(CATALOGUE_RECIPE.format(names=names, rows=rows))
    return load_recipe(path, overrides).recipe


def aspect_of(model: RankedModel, name: str) -> tuple[str, str]:
    found = next(a for a in model.aspects if a.name == name)
    return found.standing, found.text


def named(ranking: list[RankedModel], ref: str) -> RankedModel:
    return next(model for model in ranking if model.ref == ref)


def test_a_smaller_gpu_gets_a_smaller_recommendation(tmp_path: Path, rows_file: Path) -> None:
    recipe = recipe_for(tmp_path, rows_file)
    best = [select(recipe, hardware=parse_hardware(h))[0] for h in ("8xH100-80GB", "1xT4-16GB")]
    assert all(model.usable for model in best)
    assert best[0].parameters is not None and best[1].parameters is not None
    assert best[0].parameters > best[1].parameters


def test_a_model_moves_from_full_to_lora_to_nothing(tmp_path: Path, rows_file: Path) -> None:
    recipe = recipe_for(tmp_path, rows_file, "meta-llama/Llama-2-7b-hf")
    fit = [
        named(select(recipe, hardware=parse_hardware(h)), "meta-llama/Llama-2-7b-hf").fit
        for h in ("1xH200", "1xA100-40GB", "1xA100-5GB")
    ]
    assert fit == ["full", "lora", "no"]


def test_commercial_use_excludes_a_research_licence(tmp_path: Path, rows_file: Path) -> None:
    hardware = parse_hardware("1xH200")
    usable = {}
    for use in ("research", "commercial"):
        overrides = [f"model.intended_use={use}"]
        recipe = recipe_for(tmp_path, rows_file, "Qwen/Qwen2.5-3B", overrides)
        usable[use] = named(select(recipe, hardware=hardware), "Qwen/Qwen2.5-3B")
    assert usable["research"].usable is True
    assert usable["commercial"].usable is False
    assert usable["commercial"].rank == 2
    standing, text = aspect_of(usable["commercial"], "licence")
    assert standing == "out"
    assert "does not allow commercial use" in text


def test_the_conditions_of_a_licence_are_named(tmp_path: Path, rows_file: Path) -> None:
    recipe = recipe_for(
        tmp_path, rows_file, "meta-llama/Llama-2-7b-hf", ["model.intended_use=commercial"]
    )
    model = named(select(recipe, hardware=parse_hardware("1xH200")), "meta-llama/Llama-2-7b-hf")
    standing, text = aspect_of(model, "licence")
    assert standing == "caution"
    assert "700 million monthly users" in text
    assert "acceptable use policy" in text
    assert "access must be requested" in text


def test_longer_rows_rank_a_longer_context_first(tmp_path: Path) -> None:
    names = "openai-community/gpt2-xl, HuggingFaceTB/SmolLM2-1.7B"
    first = {}
    for words in (5, 6000):
        rows = tmp_path / f"{words}.jsonl"
        row = {"instruction": "Repeat.", "response": "word " * words}
        rows.write_text((json.dumps(row) + "\n") * 20)
        recipe = recipe_for(tmp_path, rows, names, ["training.max_length=1024"])
        ranking = select(recipe, hardware=parse_hardware("1xH200"))
        first[words] = named(ranking, "openai-community/gpt2-xl")
    assert aspect_of(first[5], "context")[0] == "good"
    # 6000 words of 5 bytes are about 7,500 tokens, more than twice a context of 1,024.
    assert aspect_of(first[6000], "context")[0] == "out"


def test_training_that_takes_months_is_no_recommendation(tmp_path: Path, rows_file: Path) -> None:
    ref = "meta-llama/Llama-2-70b-hf"
    for steps, standing in ((5000, "good"), (15_000, "caution"), (500_000, "out")):
        settings = [f"training.max_steps={steps}", "training.parallel=fsdp"]
        recipe = recipe_for(tmp_path, rows_file, ref, settings)
        model = named(select(recipe, hardware=parse_hardware("64xH200")), ref)
        assert aspect_of(model, "size")[0] == standing


@pytest.mark.parametrize(
    ("lengths", "standing"),
    [((10, 20, 30, 5000), "good"), ((10, 20, 3000, 5000), "caution"), ((3000,) * 4, "out")],
)
def test_context_is_held_against_the_lengths(lengths: tuple[int, ...], standing: str) -> None:
    facts = facts_for("tiiuae/falcon-7b")  # context 2048
    fit = TokenFit(4.0, 0.0, lengths, 100.0, 10, True)
    assert context_aspect(facts, fit, 2048).standing == standing


def test_context_below_the_rows_of_the_recipe_is_a_caution() -> None:
    fit = TokenFit(4.0, 0.0, (10, 20, 30, 40), 20.0, 10, True)
    assert context_aspect(facts_for("tiiuae/falcon-7b"), fit, 4096).standing == "caution"
    assert context_aspect(facts_for("tiiuae/falcon-7b"), None, 4096).standing == "caution"


@pytest.mark.parametrize(
    ("unknown", "bytes_per_token", "standing"),
    [(0.0, 4.0, "good"), (0.01, 4.0, "caution"), (0.2, 4.0, "bad"), (0.0, 1.5, "caution")],
)
def test_a_tokenizer_that_does_not_know_the_text_is_marked_down(
    unknown: float, bytes_per_token: float, standing: str
) -> None:
    fit = TokenFit(bytes_per_token, unknown, (1, 1, 1, 1), 1.0, 1, True)
    assert tokenizer_aspect(facts_for("tiiuae/falcon-7b"), fit).standing == standing


@pytest.mark.parametrize(("bits", "standing"), [(0.7, "good"), (1.2, "caution"), (3.0, "bad")])
def test_domain_is_judged_by_bits_per_byte(bits: float, standing: str) -> None:
    assert domain_aspect(bits, None, None).standing == standing


def test_what_was_not_measured_is_said(tmp_path: Path, rows_file: Path) -> None:
    base = select(recipe_for(tmp_path, rows_file, ""), hardware=parse_hardware("1xH200"))[0]
    assert base.bits_per_byte is None
    standing, text = aspect_of(base, "domain")
    assert standing == "unknown"
    assert "not measured: its weights are not on this machine" in text
    assert "18T tokens" in text


def test_a_candidate_that_cannot_be_found_is_ranked_last_with_the_reason(
    tmp_path: Path, rows_file: Path
) -> None:
    last = select(recipe_for(tmp_path, rows_file, "no-body/nothing"))[-1]
    assert (last.ref, last.usable, last.fit) == ("no-body/nothing", False, "no")
    assert "HF_HUB_OFFLINE" in last.reasons[0]


def test_a_base_model_that_cannot_be_found_is_an_error(tmp_path: Path, rows_file: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        select(recipe_for(tmp_path, rows_file, "", ["model.base=/no/such"]))


def test_code_of_the_author_excludes_unless_trusted(
    tmp_path: Path, tiny_folder: Folder, rows_file: Path
) -> None:
    own = {"AutoModelForCausalLM": "modeling_x.X"}
    folder = tiny_folder(model_type="hyperstripe", auto_map=own)
    usable = []
    for trusted in ("false", "true"):
        overrides = [f"model.trust_remote_code={trusted}", "training.max_length=64"]
        recipe = recipe_for(tmp_path, rows_file, str(folder), overrides)
        ranking = select(recipe, hardware=parse_hardware("1xH200"))
        usable.append(named(ranking, str(folder)).usable)
    assert usable == [False, True]


def test_the_stage_writes_ranking_and_suggestions_within_three_seconds(
    tmp_path: Path, rows_file: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    started = time.process_time()
    recipe = recipe_for(tmp_path, rows_file, "", ["model.hardware=1xH100"])
    document = select_stage(recipe, run, Progress(quiet=True), StopSignal())
    assert time.process_time() - started < 3
    assert read_json(run.models) == json.loads(json.dumps(document))
    assert document["recommended"] == "Qwen/Qwen2.5-0.5B"
    assert len(document["suggestions"]) == 5
    assert all(model["usable"] for model in document["suggestions"])
    assert "Qwen/Qwen2.5-0.5B" not in [model["ref"] for model in document["suggestions"]]


def test_a_requested_stop_interrupts_the_ranking(tmp_path: Path, rows_file: Path) -> None:
    stop = StopSignal()
    stop.request("SIGTERM")
    with pytest.raises(Interrupted):
        select(recipe_for(tmp_path, rows_file), stop=stop)


# The sample --------------------------------------------------------------------------------------


def test_rows_are_counted_from_the_size_of_the_file(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "a", "response": "b"}\n' * 5000)
    sample = sample_rows(recipe_for(tmp_path, rows).data, None)
    assert sample.formats == ("instruction_response",)
    assert len(sample.pairs) == 200
    assert 4500 < sample.rows < 5500


def test_unreadable_data_is_reported_and_not_fatal(tmp_path: Path) -> None:
    sample = sample_rows(recipe_for(tmp_path, tmp_path / "none.jsonl").data, None)
    assert sample.pairs == ()
    assert sample.problem is not None
    assert "none.jsonl" in sample.problem


def test_without_a_tokenizer_four_bytes_make_a_token() -> None:
    # The plain template adds "### Instruction:\n" and "\n\n### Response:\n": 33 bytes.
    fit = token_fit([("x" * 100, "y" * 67)], None)
    assert fit is not None
    assert (fit.measured, fit.unknown) == (False, None)
    assert fit.lengths == (52,) * len(QUANTILES)  # 200 bytes / 4, and begin and end


def test_no_rows_give_no_fit() -> None:
    assert token_fit([], None) is None


@pytest.mark.shared
def test_unknown_tokens_of_a_vocabulary_without_bytes_are_counted(shared: Path) -> None:
    pairs = [("Once upon a time", "é☃" * 50)]
    folders = [str(shared / "models" / n) for n in ("tinystories-656k", "stories260k")]
    unknown = [fit.unknown for fit in (token_fit(pairs, f) for f in folders) if fit]
    assert unknown[0] is not None and unknown[0] > 0.5
    assert unknown[1] == 0.0


@pytest.mark.shared
def test_the_model_trained_on_such_text_needs_fewer_bits(tmp_path: Path, shared: Path) -> None:
    import random

    story = (
        "a little girl named Lily. She loved to play outside in the park. One day, she saw a big, "
        "red ball. She wanted to play with it, but it was too high."
    )
    words = story.split()
    bits = []
    for order in (words, random.Random(0).sample(words, len(words))):
        row = {"instruction": "Tell me a story.", "response": " ".join(order)}
        rows = tmp_path / "rows.jsonl"
        rows.write_text(json.dumps(row) + "\n")
        base = f"model.base={shared / 'models' / 'tinystories-656k'}"
        model = select(recipe_for(tmp_path, rows, "", [base, "training.max_length=512"]))[0]
        assert model.bits_per_byte is not None
        bits.append(model.bits_per_byte)
    assert bits[0] < 1.5
    assert bits[1] > bits[0] + 1
