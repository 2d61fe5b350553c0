"""What a model's licence allows, summarised. Read the text before you rely on it.

Conditions are recalled from the licence texts named by `text`; they are hints, not legal advice.
"""

from dataclasses import dataclass
from typing import Literal

Use = Literal["research", "commercial"]
Standing = Literal["free", "conditions", "forbidden", "unknown"]


@dataclass(frozen=True, slots=True)
class Licence:
    """One licence. `commercial`: free, conditions, or forbidden."""

    id: str
    name: str
    commercial: Standing
    conditions: tuple[str, ...]
    text: str


_NOTICE = "keep the copyright and licence notices"
_META = "above 700 million monthly users a separate licence from Meta is needed"
_META_AUP = "Meta's acceptable use policy applies, also to your users"

LICENCES: tuple[Licence, ...] = (
    Licence("apache-2.0", "Apache License 2.0", "free", (_NOTICE, "state changed files"),
            "https://www.apache.org/licenses/LICENSE-2.0"),
    Licence("mit", "MIT License", "free", (_NOTICE,), "https://opensource.org/license/mit"),
    Licence("bsd-3-clause", "BSD 3-Clause License", "free", (_NOTICE,),
            "https://opensource.org/license/bsd-3-clause"),
    Licence("cc-by-4.0", "Creative Commons Attribution 4.0", "free", ("name the author",),
            "https://creativecommons.org/licenses/by/4.0/"),
    Licence("cc-by-sa-4.0", "Creative Commons Attribution-ShareAlike 4.0", "conditions",
            ("name the author", "adapted material carries the same licence"),
            "https://creativecommons.org/licenses/by-sa/4.0/"),
    Licence("cc-by-nc-4.0", "Creative Commons Attribution-NonCommercial 4.0", "forbidden",
            ("no commercial use", "name the author"),
            "https://creativecommons.org/licenses/by-nc/4.0/"),
    Licence("cc-by-nc-sa-4.0", "Creative Commons Attribution-NonCommercial-ShareAlike 4.0",
            "forbidden", ("no commercial use", "adapted material carries the same licence"),
            "https://creativecommons.org/licenses/by-nc-sa/4.0/"),
    Licence("llama2", "Llama 2 Community License", "conditions",
            (_META, _META_AUP, "pass on the licence and its attribution notice",
             "outputs may not be used to improve other language models"),
            "https://ai.meta.com/llama/license/"),
    Licence("llama3", "Meta Llama 3 Community License", "conditions",
            (_META, _META_AUP, "display 'Built with Meta Llama 3'",
             "a derived model's name begins with 'Llama 3'",
             "outputs may not be used to improve other language models"),
            "https://llama.meta.com/llama3/license/"),
    Licence("llama3.1", "Llama 3.1 Community License", "conditions",
            (_META, _META_AUP, "display 'Built with Llama'",
             "a derived model's name begins with 'Llama'"),
            "https://www.llama.com/llama3_1/license/"),
    Licence("llama3.2", "Llama 3.2 Community License", "conditions",
            (_META, _META_AUP, "display 'Built with Llama'",
             "a derived model's name begins with 'Llama'"),
            "https://www.llama.com/llama3_2/license/"),
    Licence("llama3.3", "Llama 3.3 Community License", "conditions",
            (_META, _META_AUP, "display 'Built with Llama'",
             "a derived model's name begins with 'Llama'"),
            "https://www.llama.com/llama3_3/license/"),
    Licence("bigcode-openrail-m", "BigCode OpenRAIL-M", "conditions",
            ("use restrictions of its attachment apply, also to your users",
             "pass on the restrictions with every derived model"),
            "https://huggingface.co/spaces/bigcode/bigcode-model-license-agreement"),
    Licence("cc0-1.0", "Creative Commons Zero 1.0", "free", ("no conditions",),
            "https://creativecommons.org/publicdomain/zero/1.0/"),
    Licence("gemma", "Gemma Terms of Use", "conditions",
            ("Google's prohibited use policy applies, also to your users",
             "pass on the terms with every derived model"),
            "https://ai.google.dev/gemma/terms"),
    Licence("qwen", "Qwen License", "conditions",
            ("above 100 million monthly users a separate licence is needed",
             "pass on the licence; display 'Built with Qwen' or 'Improved using Qwen' on models "
             "trained with it or its outputs"),
            "https://huggingface.co/Qwen/Qwen2.5-72B/blob/main/LICENSE"),
    Licence("qwen-research", "Qwen Research License", "forbidden",
            ("non-commercial use only; commercial use needs a separate licence",
             "display 'Built with Qwen' or 'Improved using Qwen'"),
            "https://huggingface.co/Qwen/Qwen2.5-3B/blob/main/LICENSE"),
    Licence("falcon-llm-license", "TII Falcon LLM License 2.0", "conditions",
            ("TII's acceptable use policy applies, also to your users",
             "state that the work is built using Falcon LLM technology from TII"),
            "https://falconllm.tii.ae/falcon-terms-and-conditions.html"),
    Licence("deepseek", "DeepSeek License Agreement", "conditions",
            ("use restrictions of its attachment apply, also to your users",),
            "https://github.com/deepseek-ai/DeepSeek-LLM/blob/main/LICENSE-MODEL"),
    Licence("bigscience-bloom-rail-1.0", "BigScience BLOOM RAIL 1.0", "conditions",
            ("use restrictions of its attachment apply, also to your users",),
            "https://huggingface.co/spaces/bigscience/license"),
)  # fmt: skip
BY_ID = {licence.id: licence for licence in LICENCES}

# What the beginning of a LICENSE file says, most specific first.
PHRASES: tuple[tuple[str, str], ...] = (
    ("llama 3.3 community license", "llama3.3"),
    ("llama 3.2 community license", "llama3.2"),
    ("llama 3.1 community license", "llama3.1"),
    ("llama 3 community license", "llama3"),
    ("llama 2 community license", "llama2"),
    ("gemma terms of use", "gemma"),
    ("qwen research license", "qwen-research"),
    ("qwen license", "qwen"),
    ("falcon llm license", "falcon-llm-license"),
    ("falcon-llm license", "falcon-llm-license"),
    ("deepseek license", "deepseek"),
    ("attribution-noncommercial-sharealike 4.0", "cc-by-nc-sa-4.0"),
    ("attribution-noncommercial 4.0", "cc-by-nc-4.0"),
    ("attribution-sharealike 4.0", "cc-by-sa-4.0"),
    ("attribution 4.0", "cc-by-4.0"),
    ("apache license", "apache-2.0"),
    ("mit license", "mit"),
    ("permission is hereby granted, free of charge", "mit"),
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """A licence held against an intended use, with the reason in words."""

    standing: Standing
    why: str
    conditions: tuple[str, ...] = ()


def licence_in(text: str) -> str | None:
    """The licence id that the beginning of a LICENSE file names, or None."""
    start = " ".join(text[:3000].lower().split())
    return next((known for phrase, known in PHRASES if phrase in start), None)


def judge(licence_id: str | None, use: Use) -> Judgement:
    """Hold a licence against an intended use; research is only ever conditional or unknown."""
    if licence_id is None:
        return Judgement("unknown", "no licence is stated: without one nothing is allowed")
    licence = BY_ID.get(licence_id.strip().lower())
    if licence is None:
        return Judgement("unknown", f"licence '{licence_id}' is not in the table: read its text")
    if use == "commercial" and licence.commercial == "forbidden":
        why = f"{licence.name} does not allow commercial use"
        return Judgement("forbidden", why, licence.conditions)
    if licence.commercial == "free":
        return Judgement("free", f"{licence.name} allows {use} use", licence.conditions)
    why = f"{licence.name} allows {use} use under conditions"
    return Judgement("conditions", why, licence.conditions)
