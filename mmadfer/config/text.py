"""The text encoder, as configurations and contracts name it (docs/textualised.md); nothing here imports torch."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mmadfer.config.base import Section, Seed
from mmadfer.config.lora import TextLoraConfig

_Size = Annotated[int, Field(gt=0, le=16384)]
_Depth = Annotated[int, Field(gt=0, le=256)]
_Vocabulary = Annotated[int, Field(gt=8, le=1 << 20)]


class TextConfig(Section):
    """A BERT-like encoder of a clip's sentence (Devlin et al. 2019); the defaults are BERT base.

    With a `folder`, the sizes must be those of its `config.json` (an error names them).
    """

    folder: Path | None = None
    """A folder as transformers writes it, with `config.json`, `model.safetensors` and `tokenizer.json`. Without one the
    encoder is drawn at random from `seed`, and words are told apart by their hashes (`mmadfer.data.tokens`)."""
    tokens: Annotated[int, Field(ge=4, le=4096)] = 128
    """Of a sentence that the model sees; shorter ones are padded, longer ones are cut."""
    width: _Size = 768
    depth: _Depth = 12
    heads: _Depth = 12
    mlp_width: _Size = 3072
    vocabulary: _Vocabulary = 30522
    """Different tokens."""
    positions: _Size = 512
    first_position: Annotated[int, Field(ge=0, le=16)] = 0
    """The row of the first token among the positions: 2 in RoBERTa, whose first rows are of padding."""
    types: Annotated[int, Field(gt=0, le=16)] = 2
    """Kinds of sentences, of which ours are all the first."""
    pad: Annotated[int, Field(ge=0, le=1 << 20)] = 0
    """The token of padding, which is not attended to."""
    eps: Annotated[float, Field(gt=0, le=1e-3)] = 1e-12
    """Of the LayerNorms."""
    pool: Literal["cls", "mean"] = "cls"
    """What stands for the sentence: its first token, or the mean of all that are no padding."""
    learns: Literal["updates", "all"] = "updates"
    """`updates`: the encoder is frozen, but for low-rank updates. `all`: every weight learns, without updates."""
    lora: TextLoraConfig = TextLoraConfig()
    seed: Seed = 0

    @model_validator(mode="after")
    def _sizes_fit(self) -> "TextConfig":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.first_position + self.tokens > self.positions:
            raise ValueError(
                f"tokens {self.tokens} from position {self.first_position} on are more than {self.positions} positions"
            )
        if self.pad >= self.vocabulary:
            raise ValueError(f"pad {self.pad} is none of {self.vocabulary} tokens")
        return self

    @model_validator(mode="after")
    def _learning_fits(self) -> "TextConfig":
        if self.learns == "all" and self.lora.rank:
            raise ValueError(f"learns is all, so updates of rank {self.lora.rank} have nothing to add: set lora.rank 0")
        return self
