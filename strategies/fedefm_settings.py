"""What FedEFM can be told: four exchangeable decisions and what they need.

*Route*: which weights travel to whom. *Teach*: which frozen teachers answer on whose
frames. *Weigh*: what a teacher counts. *Accumulate*: which models make Theta, and what
goes back to the silos.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from strategies.setting_rules import at_least, check, one_of, share

PRESETS = ("default", "paper")
ROUTES = ("exchange", "tour")
MOMENTS = ("fresh", "carried")
TOPOLOGY_NAMES = ("ring", "complete", "star", "mst", "mbst", "matcha", "edges")
TEACHERS = ("overseas", "neighbour", "global", "none")
TEACH_ON = ("student", "host", "proxy")
PROXY_FRAMES = ("simulated", "hospital")
PROXY_LABELS = ("none", "logits", "teachers", "simulated")
DISTILLED_CLASSES = ("all", "unannotated")
TEACHER_CLASSES = ("all", "annotated")
EDGE_WEIGHTS = ("emd", "one", "random", "softmax", "oracle")
WEIGHT_SCOPES = ("teacher", "loss")
WEIGHT_UNITS = ("batch", "sample")
SCORES = ("raw", "common", "standardised")
SOLVERS = ("exact", "sinkhorn")
ACCUMULATED = ("students", "students+experts", "last")
FEEDBACKS = ("none", "mean", "neighbours")

PAPER: dict[str, Any] = {
    "route": "exchange",
    "teachers": "overseas",
    "teach_on": "student",
    "distil_classes": "all",
    "teacher_classes": "all",
    "edge_weight": "emd",
    "weight_per": "batch",
    "score": "raw",
    "emd_gradient": "none",
    "reduction": "sum",
    "weight_scope": "loss",
    "beta_ramp_rounds": 0,
    "accumulate": "students",
    "feedback": "none",
}
"""What the text of FedEFM (arXiv 2501.16992) says, read literally."""


@dataclass(frozen=True)
class FedEFMSettings:
    """Multishot EMD distillation (FedEFM, arXiv 2501.16992).

    The paper leaves temperature, beta, marginals and step numbers open. The defaults
    here are ours; feedback of the accumulated model and a ramped beta of at most 0.3
    keep the accumulated model usable. `preset = "paper"` puts the paper's literal
    choices in the place of these settings, see `PAPER`.
    """

    preset: str
    # Route.
    route: str
    moments: str  # of AdamW, on tour
    topology: str
    underlay: str  # "", "gaia", "amazon" or the absolute path of a GML/GraphML file
    edges: str  # of topology "edges": "teacher>student, teacher>student"
    warmup_steps: int  # local steps of round 0
    overseas_steps: int
    # Teach.
    teachers: str
    teach_on: str
    proxy_steps: int  # steps of Theta on proxy frames, with teach_on = proxy
    proxy_site: str  # who takes them; "" = each site in turn
    proxy_frames: (
        str  # whose: the simulator's, or unlabelled ones of who takes the steps
    )
    proxy_labels: str  # what teaches in place of the silos' probabilities, one by one
    distil_classes: str
    teacher_classes: str  # what a teacher teaches: all, or what its silo annotates
    beta: float  # 0 to 1, eq. (11)
    beta_ramp_rounds: int
    temperature: float  # eq. (12)
    # Weigh.
    edge_weight: str
    weight_temperature: float  # of the softmax over teachers
    weight_per: str
    weight_scope: str
    reduction: str
    score: str
    prototypes: int  # tokens that stand for a site, for scores that need them
    tap: str  # "" = the encoder's deepest features
    grid_size: int
    marginals: str
    centred: bool
    emd_gradient: str
    solver: str
    diagonal: bool  # score a copy trained at home, too
    # Accumulate.
    accumulate: str
    feedback: str
    feedback_share: float  # 0 to 1, of what is fed back
    feedback_period: int  # rounds

    prefix: ClassVar[str] = "fedefm."

    def problems(self) -> list[str]:
        """List what is wrong, one sentence each."""
        return [
            *one_of("fedefm.preset", self.preset, PRESETS),
            *self._route_problems(),
            *self._teach_problems(),
            *self._weigh_problems(),
            *one_of("fedefm.accumulate", self.accumulate, ACCUMULATED),
            *check(
                (self.accumulate != "last" or self.route == "tour")
                and (self.accumulate != "students+experts" or self.route != "tour"),
                "fedefm.accumulate = 'last' goes with fedefm.route = 'tour' and "
                "'students+experts' with 'exchange', got "
                f"'{self.accumulate}' and '{self.route}'",
            ),
            *one_of("fedefm.feedback", self.feedback, FEEDBACKS),
            *share("fedefm.feedback-share", self.feedback_share),
            *at_least("fedefm.feedback-period", self.feedback_period, 1),
        ]

    def effective(self) -> "FedEFMSettings":
        """Return the settings with those of the preset in their place."""
        return self if self.preset == "default" else replace(self, **PAPER)

    @property
    def needs_prototypes(self) -> bool:
        """Tell whether scores compare frames with tokens that leave their sites."""
        return self.score in ("common", "standardised")

    def beta_in(self, round_number: int) -> float:
        """Return the share of distillation in a round.

        Args:
            round_number: 1 for the first federated round.

        Returns:
            beta, reached linearly after `beta_ramp_rounds` rounds.
        """
        if self.beta_ramp_rounds == 0:
            return self.beta
        return self.beta * min(round_number / self.beta_ramp_rounds, 1.0)

    def feeds_back_in(self, round_number: int) -> bool:
        """Tell whether silos get something back at the end of a round.

        Args:
            round_number: 0 is the local warm-up, after which they do if ever.

        Returns:
            Whether feedback is on and the round is one of its period.
        """
        return self.feedback != "none" and round_number % self.feedback_period == 0

    def _route_problems(self) -> list[str]:
        return [
            *one_of("fedefm.route", self.route, ROUTES),
            *check(
                self.route != "tour"
                or (self.teachers != "overseas" and self.teach_on != "host")
                or self.teach_on == "proxy",
                "fedefm.route = 'tour' trains one model silo after silo and nobody's "
                "model abroad; it needs fedefm.teachers = 'none', 'neighbour' or "
                "'global' and fedefm.teach-on = 'student' or 'proxy', got "
                f"'{self.teachers}' and '{self.teach_on}'",
            ),
            *one_of("fedefm.moments", self.moments, MOMENTS),
            *check(
                self.moments == "fresh" or self.route == "tour",
                "fedefm.moments = 'carried' lets one model carry AdamW's moments from "
                f"silo to silo and needs fedefm.route = 'tour', got '{self.route}'",
            ),
            *one_of("fedefm.topology", self.topology, TOPOLOGY_NAMES),
            *check(
                (self.topology == "edges") == bool(self.edges.strip()),
                "fedefm.edges goes with fedefm.topology = 'edges' and only with it, "
                f"got topology '{self.topology}' and "
                f"{'no' if not self.edges.strip() else 'some'} edges",
            ),
            *at_least("fedefm.warmup-steps", self.warmup_steps, 0),
            *at_least("fedefm.overseas-steps", self.overseas_steps, 0),
        ]

    def _teach_problems(self) -> list[str]:
        return [
            *one_of("fedefm.teachers", self.teachers, TEACHERS),
            *one_of("fedefm.teach-on", self.teach_on, TEACH_ON),
            *self._proxy_problems(),
            *check(
                self.teach_on != "host" or self.teachers == "overseas",
                "fedefm.teach-on = 'host' lets a traveller's former self teach it "
                "overseas and needs fedefm.teachers = 'overseas', "
                f"got '{self.teachers}'",
            ),
            *one_of("fedefm.distil-classes", self.distil_classes, DISTILLED_CLASSES),
            *self._teacher_class_problems(),
            *share("fedefm.beta", self.beta),
            *at_least("fedefm.beta-ramp-rounds", self.beta_ramp_rounds, 0),
            *check(
                self.temperature > 0,
                f"fedefm.temperature must be > 0, got {self.temperature}",
            ),
        ]

    def _proxy_problems(self) -> list[str]:
        return [
            *at_least("fedefm.proxy-steps", self.proxy_steps, 0),
            *one_of("fedefm.proxy-frames", self.proxy_frames, PROXY_FRAMES),
            *check(
                self.proxy_frames == "simulated" or self.teach_on == "proxy",
                f"fedefm.proxy-frames = '{self.proxy_frames}' teaches the accumulated "
                "model on a hospital's unlabelled frames and needs fedefm.teach-on = "
                f"'proxy', got '{self.teach_on}'",
            ),
            *check(
                self.proxy_frames == "simulated"
                or (self.proxy_labels != "simulated" and self.edge_weight != "oracle"),
                "fedefm.proxy-labels = 'simulated' and fedefm.edge-weight = 'oracle' "
                "use masks that only the simulator knows and need "
                f"fedefm.proxy-frames = 'simulated', got '{self.proxy_frames}'",
            ),
            *one_of("fedefm.proxy-labels", self.proxy_labels, PROXY_LABELS),
            *check(
                self.proxy_labels == "none" or self.teach_on == "proxy",
                f"fedefm.proxy-labels = '{self.proxy_labels}' says what teaches on "
                "proxy frames and needs fedefm.teach-on = 'proxy', "
                f"got '{self.teach_on}'",
            ),
        ]

    def _teacher_class_problems(self) -> list[str]:
        silos_teach = self.teach_on == "proxy" or (
            self.teach_on == "student" and self.teachers in ("overseas", "neighbour")
        )
        one_by_one = self.proxy_labels == "none" and self.weight_scope == "teacher"
        return [
            *one_of("fedefm.teacher-classes", self.teacher_classes, TEACHER_CLASSES),
            *check(
                self.teacher_classes == "all" or (silos_teach and one_by_one),
                "fedefm.teacher-classes = 'annotated' asks every silo's model about "
                "what its silo annotates; it needs fedefm.teach-on = 'proxy', or "
                "'student' with fedefm.teachers = 'overseas' or 'neighbour', and "
                "fedefm.proxy-labels = 'none' and fedefm.weight-scope = 'teacher', got "
                f"'{self.teach_on}', '{self.teachers}', '{self.proxy_labels}' and "
                f"'{self.weight_scope}'",
            ),
        ]

    def _weigh_problems(self) -> list[str]:
        return [
            *one_of("fedefm.edge-weight", self.edge_weight, EDGE_WEIGHTS),
            *check(
                self.edge_weight != "oracle" or self.teach_on == "proxy",
                "fedefm.edge-weight = 'oracle' weighs teachers by the simulator's "
                "masks and needs fedefm.teach-on = 'proxy', "
                f"got '{self.teach_on}'",
            ),
            *check(
                self.weight_temperature > 0,
                f"fedefm.weight-temperature must be > 0, got {self.weight_temperature}",
            ),
            *one_of("fedefm.weight-per", self.weight_per, WEIGHT_UNITS),
            *one_of("fedefm.weight-scope", self.weight_scope, WEIGHT_SCOPES),
            *one_of("fedefm.reduction", self.reduction, ("mean", "sum")),
            *one_of("fedefm.score", self.score, SCORES),
            *at_least("fedefm.prototypes", self.prototypes, 0),
            *check(
                not self.needs_prototypes or self.prototypes > 0,
                f"fedefm.score = '{self.score}' compares frames with prototype "
                "tokens of the sites, which leave them; allow it with "
                "fedefm.prototypes >= 1, got 0",
            ),
            *at_least("fedefm.grid-size", self.grid_size, 1),
            *one_of("fedefm.marginals", self.marginals, ("uniform", "cross-reference")),
            *one_of("fedefm.emd-gradient", self.emd_gradient, ("none", "flow", "full")),
            *one_of("fedefm.solver", self.solver, SOLVERS),
        ]
