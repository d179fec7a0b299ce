"""PEFT's settings of an adapter, which bring this package's own along."""

from peft import LoraConfig

from .names import AUTO_MAPPING
from .settings import AdapterSettings


class TopoLoraConfig(LoraConfig):
    """A `LoraConfig` that knows the adapter's `AdapterSettings`: where PEFT saves it, `topolora_config.json` lies too.

    A network of this package makes one of each of its adapters' configurations, whoever created or loaded them.
    """

    settings = None

    @classmethod
    def extend(cls, config: LoraConfig, settings: AdapterSettings) -> None:
        """Give a configuration its settings, in place: PEFT's model and the network hold the same object."""
        config.__class__, config.settings = cls, settings

    def save_pretrained(self, save_directory: str, **kwargs) -> None:
        """Save as PEFT does, with the base's public name, and the settings beside it."""
        name, self.base_model_name_or_path = self.base_model_name_or_path, self.settings.base
        super().save_pretrained(save_directory, **{**kwargs, "auto_mapping_dict": AUTO_MAPPING})
        self.base_model_name_or_path = name
        self.settings.save(save_directory)
