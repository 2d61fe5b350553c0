"""The shape of a causal language model, and the parameter count that follows from it.

One formula covers the dense and mixture-of-experts families of the catalogue; the tests compare it
with published counts and with transformers' own models on the meta device.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sftprep.errors import ModelError

QkNorm = Literal["none", "head", "full"]


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes and switches that decide how many weights a model has.

    `norms` is the number of norm vectors of width `hidden` per layer. `qk_norm`: none, one vector
    per head dimension (`head`), or one over all heads (`full`). `experts` counts feed-forward
    networks per layer, of which `experts_used` see one token.
    """

    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool = False
    gated_mlp: bool = True
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    norms: int = 2
    norm_weight: bool = True
    norm_bias: bool = False
    qk_norm: QkNorm = "none"
    positions: int = 0
    experts: int = 1
    experts_used: int = 1

    @property
    def query_width(self) -> int:
        """Width of all query heads."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of all key (or value) heads."""
        return self.kv_heads * self.head_dim

    @property
    def attention_parameters(self) -> int:
        """Weights of one attention block."""
        matrices = 2 * self.hidden * (self.query_width + self.kv_width)
        qkv = self.query_width + 2 * self.kv_width
        bias = qkv * self.qkv_bias + self.hidden * self.out_bias
        norm = {"none": 0, "head": 2 * self.head_dim, "full": self.query_width + self.kv_width}
        return matrices + bias + norm[self.qk_norm]

    @property
    def expert_parameters(self) -> int:
        """Weights of one feed-forward network."""
        ups = 2 if self.gated_mlp else 1
        bias = (ups * self.ffn + self.hidden) * self.mlp_bias
        return (ups + 1) * self.hidden * self.ffn + bias

    @property
    def norm_parameters(self) -> int:
        """Weights of one norm vector of width `hidden`."""
        return self.hidden * (self.norm_weight + self.norm_bias)

    def layer_parameters(self, experts: int) -> int:
        """Weights of one layer with this many of its experts counted."""
        router = self.hidden * self.experts if self.experts > 1 else 0
        feed_forward = experts * self.expert_parameters + router
        return self.attention_parameters + feed_forward + self.norms * self.norm_parameters

    @property
    def outside_layers(self) -> int:
        """Weights of embeddings, output head and final norm; a tied head counts once."""
        embeddings = self.vocab * self.hidden * (1 if self.tied else 2)
        head_bias = self.vocab * self.head_bias
        return embeddings + head_bias + self.positions * self.hidden + self.norm_parameters

    @property
    def parameters(self) -> int:
        """Exact number of weights."""
        return self.outside_layers + self.layers * self.layer_parameters(self.experts)

    @property
    def active_parameters(self) -> int:
        """Weights that take part in the computation of one token."""
        return self.outside_layers + self.layers * self.layer_parameters(self.experts_used)

    def lora_parameters(self, rank: int) -> int:
        """Weights of adapters of this rank on every linear map inside the layers."""
        attention = 2 * (2 * self.hidden + self.query_width + self.kv_width)
        maps = 3 if self.gated_mlp else 2
        feed_forward = self.experts * maps * (self.hidden + self.ffn)
        return self.layers * rank * (attention + feed_forward)


# How a family differs from the Llama layout, by `model_type` of config.json. A callable reads the
# value from the configuration.
Reader = Callable[[Mapping[str, Any]], Any]
Trait = bool | int | str | Reader


def _flag(key: str, default: bool) -> Reader:
    return lambda config: bool(config.get(key, default))


_QWEN2: dict[str, Trait] = {"qkv_bias": True}
_QWEN3: dict[str, Trait] = {"qk_norm": "head", "qkv_bias": _flag("attention_bias", False)}
_BIASED: dict[str, Trait] = {
    "gated_mlp": False, "qkv_bias": True, "out_bias": True, "mlp_bias": True, "norm_bias": True,
}  # fmt: skip
_LLAMA: dict[str, Trait] = {
    "qkv_bias": _flag("attention_bias", False),
    "out_bias": _flag("attention_bias", False),
    "mlp_bias": _flag("mlp_bias", False),
}
TRAITS: dict[str, dict[str, Trait]] = {
    "llama": _LLAMA,
    "mistral": {},
    "mixtral": {},
    "smollm3": _LLAMA,
    "granite": _LLAMA,
    "qwen2": _QWEN2,
    "qwen3": _QWEN3,
    "qwen3_moe": _QWEN3,
    "gemma": {"tied": _flag("tie_word_embeddings", True)},
    "gemma2": {"tied": _flag("tie_word_embeddings", True), "norms": 4},
    "gemma3_text": {"tied": _flag("tie_word_embeddings", True), "norms": 4, "qk_norm": "head"},
    "olmo": {"norm_weight": False},
    "olmo2": {"qk_norm": "full"},
    "olmo3": {"qk_norm": "full"},
    "phi": {**_BIASED, "norms": 1, "head_bias": True},
    "gpt_neox": _BIASED,
    "starcoder2": {**_BIASED, "tied": _flag("tie_word_embeddings", True)},
    "gpt2": {
        **_BIASED,
        "tied": _flag("tie_word_embeddings", True),
        "positions": lambda c: c.get("n_positions", c.get("max_position_embeddings", 1024)),
    },
    "falcon": {
        "gated_mlp": False,
        "norm_bias": True,
        "tied": _flag("tie_word_embeddings", True),
        "qkv_bias": _flag("bias", False),
        "out_bias": _flag("bias", False),
        "mlp_bias": _flag("bias", False),
        "norms": lambda c: _falcon_norms(c),
        "kv_heads": lambda c: _falcon_kv_heads(c),
    },
}

# Names of the same size in different families.
_ALIASES: dict[str, tuple[str, ...]] = {
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "hidden": ("hidden_size", "n_embd"),
    "ffn": ("moe_intermediate_size", "intermediate_size", "ffn_hidden_size", "n_inner"),
    "heads": ("num_attention_heads", "n_head"),
    "vocab": ("vocab_size",),
}


def _falcon_kv_heads(config: Mapping[str, Any]) -> int:
    if config.get("new_decoder_architecture"):
        return int(config["num_kv_heads"])
    return 1 if config.get("multi_query", True) else int(config["num_attention_heads"])


def _falcon_norms(config: Mapping[str, Any]) -> int:
    if config.get("new_decoder_architecture"):
        return int(config.get("num_ln_in_parallel_attn") or 2)
    return 1 if config.get("parallel_attn", True) else 2


def _size(config: Mapping[str, Any], name: str) -> int:
    for key in _ALIASES[name]:
        value = config.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31:
            return value
        if value is not None:
            raise ModelError(f"config.json: {key} is {value!r}, expected a positive whole number.")
    if name == "ffn" and config.get("model_type") in ("gpt2", "falcon"):
        return 4 * _size(config, "hidden")
    raise ModelError(f"config.json: no {' or '.join(_ALIASES[name])}.")


def shape_of(config: Mapping[str, Any]) -> ModelShape:
    """The shape described by a config.json.

    Families outside TRAITS are read as Llama-like; use the safetensors header for their count.

    Raises:
        ModelError: a size is missing or is not a positive whole number.
    """
    sizes = {name: _size(config, name) for name in _ALIASES}
    heads = sizes["heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    head_dim = config.get("head_dim") or sizes["hidden"] // heads
    values: dict[str, Any] = {
        **sizes,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "tied": bool(config.get("tie_word_embeddings", False)),
        "experts": config.get("num_local_experts") or config.get("num_experts") or 1,
        "experts_used": config.get("num_experts_per_tok") or 1,
    }
    for name, trait in TRAITS.get(str(config.get("model_type")), {}).items():
        values[name] = trait(config) if callable(trait) else trait
    wrong = [n for n in ("kv_heads", "head_dim", "experts") if not _positive(values[n])]
    if wrong:
        raise ModelError(f"config.json: {wrong[0]} is {values[wrong[0]]!r}, expected at least 1.")
    return ModelShape(**values)


def _positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
