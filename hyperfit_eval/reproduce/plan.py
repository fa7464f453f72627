"""The models and continuations that most experiments share."""

from dataclasses import dataclass, replace
from functools import cached_property

from ..generation import Decoding
from .cells import metrics_step
from .models import Model, continuation_step, hyperfitted, scoring_step
from .setting import StudySetting
from .steps import Step


@dataclass(frozen=True)
class Plan:
    """Steps of one study; made once, so that experiments share them."""

    setting: StudySetting

    @cached_property
    def base(self) -> Model:
        """The model as it was pretrained."""
        return Model("base", self.setting)

    @cached_property
    def hyperfitted(self) -> Model:
        """The model after hyperfitting, with the first seed, evaluated after each epoch for Figure 2."""
        return hyperfitted(self.setting, seed=self.setting.seeds[0], evaluation_share=1)

    @cached_property
    def instruct(self) -> list[Model]:
        """The instruction-tuned variant and the same hyperfitted by the same recipe; empty where none is given."""
        if self.setting.instruct is None:
            return []
        setting = replace(self.setting, model=self.setting.instruct)
        return [Model("instruct", setting), hyperfitted(setting, "instruct-hyperfitted", seed=self.setting.seeds[0])]

    @cached_property
    def continuations(self) -> dict[str, Step]:
        """Continuations of the evaluation texts: base, top_p, hyperfitted, blocked (the paper's Table 1)."""
        return {
            "base": continuation_step(self.base, "base", Decoding()),
            "top_p": continuation_step(self.base, "top_p", Decoding.top_p_baseline()),
            "hyperfitted": continuation_step(self.hyperfitted, "hyperfitted", Decoding()),
            "blocked": continuation_step(self.hyperfitted, "blocked", Decoding(), blocked=True),
        }

    @cached_property
    def metrics(self) -> dict[str, Step]:
        """Metrics of each of these continuations."""
        return {name: metrics_step(step, self.hyperfitted) for name, step in self.continuations.items()}

    @cached_property
    def predictions(self) -> dict[str, Step]:
        """Predictions of base and hyperfitted model along the original texts."""
        return {"base": scoring_step(self.base), "hyperfitted": scoring_step(self.hyperfitted)}


GREEDY = ("base", "hyperfitted", "blocked")

LABELS = {
    "base": "base, greedy",
    "top_p": "base, Top-P",
    "hyperfitted": "hyperfitted, greedy",
    "blocked": "hyperfitted, greedy, citation blocking",
}
