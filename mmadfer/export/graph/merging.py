"""What is delivered has no low-rank updates: they are in the weights."""

from mmadfer.config.lora import LoraConfig, TextLoraConfig
from mmadfer.config.model import ModelConfig
from mmadfer.model.initializers import fill_constants
from mmadfer.model.lora import LoraLinear
from mmadfer.model.mma_dfer import MMADFER, empty_model


def updated(config: ModelConfig) -> bool:
    """Whether a model has low-rank updates."""
    return config.lora.rank > 0 or (config.text is not None and config.text.lora.rank > 0)


def merged(model: MMADFER) -> MMADFER:
    """The same function as a model without updates, whose contract says so; hashes in it are left to be computed.

    Other weights than those of layers with updates are shared; a model without updates is returned as it is.
    """
    text = model.config.text
    if not updated(model.config):
        return model
    plain = text and text.model_copy(update={"lora": TextLoraConfig()})
    config = model.config.model_copy(update={"lora": LoraConfig(), "text": plain})
    state = {name: value for name, value in model.state_dict().items() if ".lora_" not in name}
    for name, layer in model.named_modules():
        if isinstance(layer, LoraLinear):
            state[f"{name}.weight"] = layer.merged()
    made = empty_model(config, model.outputs)
    made.load_state_dict(state, assign=True)
    fill_constants(made)
    made.contract = model.contract and model.contract.model_copy(
        update={"model": config, "encoder_hash": "", "weights_hash": ""}
    )
    return made.train(model.training)
