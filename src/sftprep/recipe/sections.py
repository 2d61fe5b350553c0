"""Sections of the recipe: frozen, unknown keys refused. The text under a field is its help.

Defaults are the recommended values for a 7B model where a size matters; `recipe/presets.py`
overlays the values for other sizes.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

CheckAction = Literal["drop", "flag", "off"]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """Base of all sections."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSection(Section):
    """Which base model, and how it is read."""

    base: str
    """Folder or hub id of the pre-trained model."""
    revision: str | None = None
    """Hub revision (commit, tag or branch)."""
    tokenizer: str | None = None
    """Folder or hub id of another tokenizer; default: the base model's."""
    chat_template: str = "auto"
    """auto (the tokenizer's own, else `plain`), plain, chatml, or a Jinja file."""
    trust_remote_code: bool = False
    """Run Python code shipped with the model. Off unless you trust its author."""
    intended_use: Literal["research", "commercial"] = "research"
    """Checked against the licence."""
    candidates: tuple[str, ...] = ()
    """Other base models to rank beside `base` in the models stage; `catalogue` adds them all."""
    hardware: str = "auto"
    """auto (this machine), or another to plan for, e.g. 8xH100-80GB@2.50 (dollars per hour)."""


class Source(Section):
    """One file, folder or Hugging Face data set of instruction data."""

    path: str
    """File or folder, relative to the recipe; or a hub id such as OWNER/NAME."""
    format: str = "auto"
    """auto, or instruction_response, alpaca, prompt_completion, question_answer, sharegpt,
    messages, self_instruct, oasst, transcript."""
    split: str | None = None
    """Split of a Hugging Face data set (hub id or saved folder); default: train."""
    name: str | None = None
    """Name in reports; default: the file's name."""
    licence: str | None = None
    """SPDX id or free text."""
    category: str | None = None
    """Category for rows that have none."""
    limit: Positive | None = None
    """Read at most this many rows."""
    weight: Annotated[float, Field(gt=0, le=100)] = 1.0
    """How often its kept rows train: 0.5 draws half of them, 2 trains on each twice. Held-out rows
    are never repeated."""
    columns: dict[str, str] = {}
    """Explicit column map, e.g. {instruction: question, response: answer}."""
    labels: str | None = None
    """JSON file of known defects, {"defects": {line: kind}}: the report states what was found."""
    allow_duplicates: bool = False
    """Keep repeats that are there by design (identity sets)."""


def _source_from_text(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


SourceOrPath = Annotated[Source, BeforeValidator(_source_from_text)]


class CheckSetting(Section):
    """Override of one check."""

    action: CheckAction | None = None
    """drop, flag or off; default: the check's own."""
    threshold: float | None = None
    """The check's limit; its meaning is in the check's documentation."""


class DataSection(Section):
    """Instruction data: sources, checks, split."""

    sources: tuple[SourceOrPath, ...] = Field(min_length=1)
    """Files or folders; a bare path is enough."""
    checks: dict[str, CheckSetting] = {}
    """Overrides by check id, e.g. {response_repetitive: {threshold: 0.3}}."""
    minimum_rows: Annotated[int, Field(ge=0)] = 10_000
    """Rows needed after filtering, also counted in unique prompts."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Share of rows held out, by whole groups of related rows."""
    near_duplicate_threshold: Share = 0.8
    """Jaccard similarity from which two rows count as duplicates."""
    contamination_threshold: Share = 0.5
    """Share of a benchmark item's n-grams in one row from which the row is dropped."""
    max_bad_fraction: Share = 0.01
    """The stage fails when a larger share of rows cannot be read."""
    toxicity_classifier: str | None = None
    """Your own scorer as `module:function`: takes texts, returns one score 0..1 for each."""
    seed: int = 0
    """Seed of the split and of drawing rows by weight."""
    engine: Literal["local", "ray"] = "local"
    """local: processes of this machine; ray: Ray Data (needs sftprep[ray]). Same result."""
    processes: Positive | None = None
    """Processes that check rows; default: one per core for large inputs. With ray: its workers."""
    ray_address: str | None = None
    """Cluster to use, e.g. ray://head:10001; default: a Ray of this machine."""
    trace: bool = False
    """Also write data/trace.parquet: everything that happened to every row."""


class TrainingSection(Section):
    """Supervised fine-tuning."""

    method: Literal["full", "lora"] = "full"
    """Full fine-tuning, or LoRA adapters (needs sftprep[lora])."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2e-5
    """Peak learning rate."""
    batch_size: Positive = 8
    """Packed rows of max_length tokens per micro-batch and rank."""
    gradient_accumulation_steps: Positive = 4
    """Micro-batches per optimiser step."""
    max_steps: Positive | None = 5000
    """Optimiser steps; leave empty when epochs is given."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """Passes over the data, instead of max_steps."""
    warmup_steps: Annotated[int, Field(ge=0)] = 500
    """Steps of linear warm-up."""
    warmup_ratio: Share | None = None
    """Share of all steps that warm up; when given, it takes the place of warmup_steps."""
    lr_scheduler: Literal["cosine", "linear", "constant", "wsd"] = "cosine"
    """Shape after warm-up; cosine, linear and wsd (warm-up, stable, decay) end at min_lr_ratio."""
    decay_ratio: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Share of all steps in which wsd falls."""
    min_lr_ratio: Share = 0.0
    """Final learning rate as a share of the peak."""
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    """adamw (fused), or with 8-bit moments (needs bitsandbytes and a GPU)."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW weight decay; never on norms and biases."""
    adam_beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """First moment decay."""
    adam_beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Second moment decay."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are clipped to this global norm."""
    max_length: Annotated[int, Field(ge=8)] = 2048
    """Tokens per packed row; longer conversations are rejected by the data stage."""
    train_on: Literal["responses", "all_turns", "full"] = "responses"
    """responses: assistant turns marked for training; all_turns: each assistant turn; full: all."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 where the machine has it. Master weights stay fp32. fp16 scales the loss."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile of the transformer layers; auto: on a GPU."""
    parallel: Literal["auto", "ddp", "fsdp", "hsdp"] = "auto"
    """Several ranks: copies (ddp, auto), shards (fsdp), shards within a machine (hsdp)."""
    neftune_alpha: Annotated[float, Field(gt=0)] | None = None
    """Noise on embeddings during training, e.g. 5; empty: none."""
    gradient_checkpointing: Literal["auto", "on", "off"] = "auto"
    """Recompute activations to save memory; auto follows the memory plan."""
    lora_rank: Positive = 16
    """Rank of the LoRA adapters."""
    lora_alpha: Positive = 32
    """Scale of the LoRA adapters."""
    lora_dropout: Share = 0.0
    """Dropout of the LoRA adapters."""
    lora_weight_decomposed: bool = False
    """DoRA: learn the size of each weight column apart from its direction."""
    lora_base_4bit: bool = False
    """Keep the frozen base in 4 bits (QLoRA; needs bitsandbytes and a GPU)."""
    validate_every: Positive = 100
    """Steps between validations."""
    save_every: Positive = 500
    """Steps between latest checkpoints."""
    keep_checkpoints: Positive = 2
    """Step checkpoints kept beside best and latest."""
    async_checkpoints: Literal["auto", "on", "off"] = "auto"
    """Write checkpoints while training goes on; auto: when memory holds a second copy."""
    early_stopping_patience: Positive | None = 5
    """Validations without improvement before training stops; empty: never."""
    export: Literal["best_validation", "best_train", "latest"] = "best_validation"
    """The checkpoint that becomes the baseline."""
    red_flags: dict[str, Literal["warn", "stop", "off"]] = {}
    """Override the action of a red flag by its id."""
    on_non_finite: Literal["stop", "skip", "rollback", "lower_rate"] = "stop"
    """A NaN or Inf loss or gradient never reaches the weights; then: stop, skip the step, go back
    to the last checkpoint's weights, or skip and halve the learning rate."""
    loggers: tuple[Literal["wandb", "mlflow", "trackio"], ...] = ()
    """Trackers beside steps.jsonl and TensorBoard (need sftprep[wandb], [mlflow], [trackio])."""
    log_project: str = "sftprep"
    """Project (experiment) name at the trackers."""
    sample_every: Positive | None = None
    """Steps between sample answers to held-out prompts; empty: none during training."""
    seed: int = 0
    """Seed of shuffling, packing and dropout."""

    @model_validator(mode="after")
    def _one_length(self) -> "TrainingSection":
        if (self.max_steps is None) == (self.epochs is None):
            raise ValueError("give either max_steps or epochs, and leave the other empty")
        return self


class ValidationSection(Section):
    """Validation of the trained model against the base model."""

    max_rows: Positive = 2000
    """Held-out rows used for perplexity."""
    samples: Annotated[int, Field(ge=0)] = 20
    """Sample generations shown side by side."""
    max_new_tokens: Positive = 128
    """Length limit of generated answers."""
    instruction_prompts: str | None = None
    """JSONL of prompts with exact or verifiable answers; default: built-in constraints plus
    short held-out rows."""
    instruction_limit: Positive = 500
    """Prompts used for instruction-following accuracy."""


SAME_ITEMS = {"mmlu_cloze": "mmlu", "humaneval_instruct": "humaneval"}
"""Benchmarks that ask the items of another one in another form."""


class BenchmarkTask(Section):
    """One benchmark."""

    name: str
    """mmlu, humaneval, gsm8k, truthfulqa, hellaswag, ifeval, mmlu_cloze, humaneval_instruct, a
    starter_* set, or lm_eval:TASK for any task of lm-evaluation-harness."""
    path: str | None = None
    """File or folder with the items; default: benchmarks.data_dir/NAME, else the hub."""
    limit: Positive | None = None
    """Use a fixed subset of this many items; reported as a subset."""
    few_shot: Annotated[int, Field(ge=0)] | None = None
    """Examples in the prompt; default: the protocol's."""
    samples: Positive = 1
    """Answers drawn per problem, for pass@k (HumanEval)."""
    temperature: Annotated[float, Field(ge=0)] | None = None
    """Of the samples; default: 0 (greedy) for one, 0.2 for several."""

    @property
    def folder(self) -> str:
        """Name of the folder with its items below `benchmarks.data_dir`."""
        return SAME_ITEMS.get(self.name, self.name)


def _task_from_text(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


TaskOrName = Annotated[BenchmarkTask, BeforeValidator(_task_from_text)]
SEED_BENCHMARKS = ("mmlu", "humaneval", "gsm8k", "truthfulqa", "hellaswag", "ifeval")


class BenchmarksSection(Section):
    """Capability benchmarks recorded as the baseline."""

    tasks: tuple[TaskOrName, ...] = tuple(BenchmarkTask(name=name) for name in SEED_BENCHMARKS)
    """Benchmarks; a bare name is enough."""
    data_dir: str | None = None
    """Folder with one sub-folder per benchmark."""
    limit: Positive | None = None
    """Subset size for every task without its own."""
    base_model: bool = True
    """Also score the base model, to see what training gained or lost."""
    max_tokens_per_batch: Positive = 8192
    """Token budget of one forward pass."""
    engine: Literal["own", "vllm"] = "own"
    """Which engine writes answers: own, or vllm (extra package, GPU). Scores are always own."""
    allow_unsafe_code: bool = False
    """Run HumanEval code without a sandbox. Only inside a machine you can lose."""


class GateSection(Section):
    """Pass criteria."""

    max_validation_perplexity: Annotated[float, Field(gt=1)] = 20.0
    """Held-out perplexity must be below this and below the base model's."""
    min_instruction_following: Share = 0.5
    """Accuracy on held-out instructions; must also be significantly above the base model."""
    max_empty_rate: Share = 0.02
    """Share of empty answers."""
    max_repetitive_rate: Share = 0.05
    """Share of looping answers."""
    min_stop_rate: Share = 0.9
    """Share of answers that end by themselves."""
    max_contaminated: Annotated[int, Field(ge=0)] = 0
    """Kept rows that overlap benchmark items."""
    require_benchmarks: tuple[str, ...] | None = None
    """Benchmarks that must be recorded in full; default: every task of the recipe."""
    allow_subsets: bool = False
    """Accept subsets of benchmarks (for trying the tool; a subset is never the benchmark)."""
    max_forgetting: Share = 0.0
    """Loss against the base model that is tolerated on any benchmark though it is significant."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence of the statistical rules."""


class OutputSection(Section):
    """Where the run goes and what is exported."""

    run_dir: str = "runs/sft"
    """Run folder, relative to the working directory."""
    also_pytorch_bin: bool = False
    """Write pytorch_model.bin beside model.safetensors for a consumer that insists."""
    push_to_hub: str | None = None
    """Repository on the Hugging Face hub (owner/name) for the baseline; sent after a passing gate.
    Needs a token (`hf auth login` or HF_TOKEN)."""
    hub_private: bool = True
    """Create the repository as private."""
    weights_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of exported weights; auto keeps the base model's."""


def _benchmarks_from_list(value: object) -> object:
    return {"tasks": value} if isinstance(value, list | tuple) else value


class Recipe(Section):
    """Everything one run needs."""

    model: ModelSection
    data: DataSection
    training: TrainingSection = TrainingSection()
    validation: ValidationSection = ValidationSection()
    benchmarks: Annotated[BenchmarksSection, BeforeValidator(_benchmarks_from_list)] = (
        BenchmarksSection()
    )
    gate: GateSection = GateSection()
    output: OutputSection = OutputSection()
