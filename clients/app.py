"""The hospital's ClientApp: wiring only."""

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from clients.containment import contain_failures
from clients.hospital import Hospital
from clients.training import (
    TrainPlan,
    TrainReport,
    evaluate,
    train_on_labels,
    train_with_teachers,
)
from models.network import SegmentationNetwork
from models.registry import build_model
from models.weights import check_weights
from strategies import messages
from strategies.accumulation import State
from strategies.randomness import derive_seed
from strategies.run_log import join_flowers_log
from strategies.settings import RunSettings

join_flowers_log()

app = ClientApp()


@app.query(mods=[contain_failures])
def introduce(message: Message, context: Context) -> Message:
    """Say who this hospital is: its name, counts, classes and digests."""
    settings = RunSettings.from_run_config(context.run_config)
    hospital = Hospital.from_node_config(context.node_config, settings)
    content = messages.pack_reply(
        hospital.name,
        {messages.NUM_EXAMPLES: len(hospital.split.train)},
        facts=hospital.facts(),
    )
    return Message(content, reply_to=message)


@app.train(mods=[contain_failures])
def train_local(message: Message, context: Context) -> Message:
    """Train the received model on this hospital's labels."""
    settings = RunSettings.from_run_config(context.run_config)
    is_warmup = settings.strategy == "fedefm"  # whose only local steps are round 0
    steps = settings.fedefm.warmup_steps if is_warmup else settings.train.steps
    return _train(message, context, settings, "local", steps)


@app.train("overseas", mods=[contain_failures])
def train_overseas(message: Message, context: Context) -> Message:
    """Train a neighbour's model on this hospital's labels."""
    settings = RunSettings.from_run_config(context.run_config)
    return _train(
        message, context, settings, "overseas", settings.fedefm.overseas_steps
    )


@app.train("distil", mods=[contain_failures])
def train_distil(message: Message, context: Context) -> Message:
    """Train this hospital's model on its labels and its teachers."""
    settings = RunSettings.from_run_config(context.run_config)
    hospital = Hospital.from_node_config(context.node_config, settings)
    job = messages.unpack_job(message)
    model = _load_model(settings, job.weights, "the student")
    report = train_with_teachers(
        model,
        {
            host: _load_model(settings, state, f"the teacher from '{host}'")
            for host, state in job.teachers.items()
        },
        hospital.split.train,
        _plan(settings, job, "distil", hospital.name, settings.train.steps),
        hospital.device,
        settings=settings.fedefm,
        beta=settings.fedefm.beta_in(job.round_number),
    )
    return _trained_reply(message, hospital, model, report, job.owner)


@app.evaluate(mods=[contain_failures])
def measure(message: Message, context: Context) -> Message:
    """Measure the received model on this hospital's validation or test frames."""
    settings = RunSettings.from_run_config(context.run_config)
    hospital = Hospital.from_node_config(context.node_config, settings)
    job = messages.unpack_job(message)
    frames = hospital.split.test if job.split == "test" else hospital.split.validation
    loss, counts = evaluate(
        _load_model(settings, job.weights, "the global model"),
        frames,
        settings=settings.frames,
        batch_size=settings.train.batch_size,
        device=hospital.device,
    )
    metrics = {
        messages.NUM_EXAMPLES: len(frames),
        messages.LOSS: loss,
        **counts.to_dict(),
    }
    return Message(messages.pack_reply(hospital.name, metrics), reply_to=message)


def _train(
    message: Message, context: Context, settings: RunSettings, phase: str, steps: int
) -> Message:
    hospital = Hospital.from_node_config(context.node_config, settings)
    job = messages.unpack_job(message)
    model = _load_model(settings, job.weights, "the received model")
    plan = _plan(settings, job, phase, hospital.name, steps)
    report = train_on_labels(model, hospital.split.train, plan, hospital.device)
    return _trained_reply(message, hospital, model, report, job.owner)


def _load_model(
    settings: RunSettings, state: State | None, source: str
) -> SegmentationNetwork:
    model = build_model(
        settings.model.name, image_size=settings.model.image_size, seed=settings.seed
    )
    check_weights(state or {}, model.trainable_state(), source=source)
    model.load_trainable_state(state or {})
    return model


def _plan(
    settings: RunSettings, job: messages.Job, phase: str, site: str, steps: int
) -> TrainPlan:
    return TrainPlan(
        steps=steps,
        learning_rate=settings.train.learning_rate_in(
            job.round_number, settings.num_rounds
        ),
        settings=settings.train,
        data=settings.frames,
        seed=derive_seed(
            settings.seed,
            round_number=job.round_number,
            phase=phase,
            site=site,
            owner=job.owner,
        ),
        deadline_s=0.9 * settings.phase_timeout_s,
    )


def _trained_reply(
    message: Message,
    hospital: Hospital,
    model: SegmentationNetwork,
    report: TrainReport,
    owner: str,
) -> Message:
    def mean(values: list[float]) -> float:
        return sum(values) / len(values) if values else 0.0

    metrics = {
        messages.NUM_EXAMPLES: len(hospital.split.train),
        messages.LOSS: mean(report.label_losses),
        **{messages.SCORE + name: mean(v) for name, v in report.scores.items()},
        **{messages.WEIGHT + name: mean(v) for name, v in report.weights.items()},
    }
    content = messages.pack_reply(
        hospital.name, metrics, state=model.trainable_state(), owner=owner
    )
    return Message(content, reply_to=message)
