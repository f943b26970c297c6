"""The hospital's ClientApp: wiring only."""

from collections.abc import Mapping
from statistics import fmean as mean

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from clients.containment import contain_failures
from clients.hospital import Hospital
from clients.networks import receive_model
from clients.optimisation import TrainPlan, TrainReport
from clients.plans import plan_phase
from clients.prototypes import find_prototypes
from clients.proxies import distil_on_proxies
from clients.rival_steps import steps_of, train_as_rival
from clients.site_mods import keep_site_rules
from clients.site_privacy import guard_change
from clients.tasks import labelled_frames, unlabelled_frames
from clients.training import Retention, train_on_labels, train_with_teachers
from models.network import SegmentationNetwork
from strategies import messages
from strategies.accumulation import State
from strategies.moments import ADAMW
from strategies.replies import pack_reply
from strategies.rivals.registry import RIVALS
from strategies.run_log import join_flowers_log
from strategies.settings import RunSettings

join_flowers_log()

app = ClientApp()

# The first is the outermost: what the rules of a site refuse is contained, too.
MODS = [contain_failures, keep_site_rules]


@app.query(mods=MODS)
def introduce(message: Message, context: Context) -> Message:
    """Say who this hospital is: its name, counts, classes and digests."""
    settings = RunSettings.from_run_config(context.run_config)
    hospital = Hospital.from_node_config(context.node_config, settings)
    content = pack_reply(
        hospital.name,
        {
            messages.NUM_EXAMPLES: len(
                labelled_frames(hospital.split.train, hospital.task)
            )
        },
        facts=hospital.facts(),
    )
    return Message(content, reply_to=message)


@app.query("prototypes", mods=MODS)
def tell_prototypes(message: Message, context: Context) -> Message:
    """Tell the tokens that stand for this hospital's frames; they leave it."""
    settings = RunSettings.from_run_config(context.run_config)
    hospital = Hospital.from_node_config(context.node_config, settings)
    job = messages.unpack_job(message)
    tokens = find_prototypes(
        receive_model(hospital.recipe, job.weights, source="the accumulated model"),
        # Of what its model has learned to answer for.
        labelled_frames(hospital.split.train, hospital.task),
        count=settings.fedefm.prototypes,
        tap=settings.fedefm.tap,
        grid_size=settings.fedefm.grid_size,
        settings=settings.frames,
        batch_size=settings.train.batch_size,
        device=hospital.device,
        seed=plan_phase(settings, job, "prototypes", hospital, 1).seed,
    )
    content = pack_reply(hospital.name, {}, state={messages.TOKENS: tokens})
    return Message(content, reply_to=message)


@app.train(mods=MODS)
def train_local(message: Message, context: Context) -> Message:
    """Train the received model on this hospital's labels."""
    settings = RunSettings.from_run_config(context.run_config)
    if settings.strategy in RIVALS:
        return _train_as_rival(message, context, settings)
    is_warmup = (
        settings.strategy == "fedefm"
        and messages.unpack_round(message) == 0  # FedAvg has no warm-up
    )
    steps = settings.fedefm.warmup_steps if is_warmup else settings.train.steps
    return _train(message, context, settings, "local", steps)


@app.train("overseas", mods=MODS)
def train_overseas(message: Message, context: Context) -> Message:
    """Train a neighbour's model on this hospital's labels."""
    settings = RunSettings.from_run_config(context.run_config)
    fedefm = settings.fedefm
    retention = None
    if fedefm.teach_on == "host":
        retention = Retention(
            beta=fedefm.beta_in(messages.unpack_round(message)),
            temperature=fedefm.temperature,
            distil_classes=fedefm.distil_classes,
        )
    return _train(
        message, context, settings, "overseas", fedefm.overseas_steps, retention
    )


@app.train("distil", mods=MODS)
def train_distil(message: Message, context: Context) -> Message:
    """Train this hospital's model on its labels, or pseudo-labels, and its teachers."""
    settings = RunSettings.from_run_config(context.run_config)
    hospital = Hospital.from_node_config(context.node_config, settings)
    job = messages.unpack_job(message)
    report = train_with_teachers(
        model := receive_model(hospital.recipe, job.weights, source="the student"),
        job.teachers,
        hospital.frames_to_train(settings),
        plan_phase(settings, job, "distil", hospital, settings.train.steps),
        hospital.device,
        settings=settings.fedefm,
        beta=settings.fedefm.beta_in(job.round_number),
        controls=_train_at_home(settings, hospital, job),
        prototypes=job.prototypes,
        common=job.common,
        teaches=job.teaches,
    )
    return _trained_reply(message, hospital, settings, model, report)


@app.train("proxy", mods=MODS)
def train_on_proxies(message: Message, context: Context) -> Message:
    """Let all silos' models teach the accumulated one on frames without labels."""
    settings = RunSettings.from_run_config(context.run_config)
    hospital = Hospital.from_node_config(context.node_config, settings)
    job = messages.unpack_job(message)
    frames, seeded_by = (
        None,
        "",
    )  # simulated: whoever computes it, the result is the same
    if settings.fedefm.proxy_frames == "hospital":
        frames = unlabelled_frames(hospital.split.train, hospital.task)
        seeded_by = hospital.name
    report = distil_on_proxies(
        model := receive_model(
            hospital.recipe, job.weights, source="the accumulated model"
        ),
        job.teachers,
        plan_phase(
            settings,
            job,
            "proxy",
            hospital,
            settings.fedefm.proxy_steps,
            site=seeded_by,
        ),
        hospital.device,
        settings=settings.fedefm,
        image_size=settings.frames.frame_size,
        frames=frames,
        prototypes=job.prototypes,
        common=job.common,
        teaches=job.teaches,
    )
    return _trained_reply(message, hospital, settings, model, report)


@app.evaluate(mods=MODS)
def measure(message: Message, context: Context) -> Message:
    """Measure the received model on this hospital's validation or test frames."""
    settings = RunSettings.from_run_config(context.run_config)
    hospital = Hospital.from_node_config(context.node_config, settings)
    job = messages.unpack_job(message)
    frames = hospital.split.test if job.split == "test" else hospital.split.validation
    evaluation = hospital.task.measure(
        receive_model(hospital.recipe, job.weights, source="the global model"),
        frames,
        settings=settings.frames,
        batch_size=settings.train.batch_size,
        device=hospital.device,
        measures=settings.evaluation.measures_of(job.split),
    )
    content = pack_reply(hospital.name, evaluation.to_metrics())
    return Message(content, reply_to=message)


def _train(
    message: Message,
    context: Context,
    settings: RunSettings,
    phase: str,
    steps: int,
    retention: Retention | None = None,
) -> Message:
    hospital = Hospital.from_node_config(context.node_config, settings)
    job = messages.unpack_job(message)
    model = receive_model(hospital.recipe, job.weights, source="the received model")
    plan = plan_phase(settings, job, phase, hospital, steps)
    report = _take_steps(model, hospital, settings, plan, retention)
    return _trained_reply(message, hospital, settings, model, report)


def _train_as_rival(
    message: Message, context: Context, settings: RunSettings
) -> Message:
    hospital = Hospital.from_node_config(context.node_config, settings)
    job = messages.unpack_job(message)
    model = receive_model(hospital.recipe, job.weights, source="the received model")
    steps = steps_of(settings, hospital.name, job.owner)
    plan = plan_phase(settings, job, "local", hospital, steps)
    report, aids = train_as_rival(model, hospital, settings, plan, job)
    return _trained_reply(message, hospital, settings, model, report, aids)


def _take_steps(
    model: SegmentationNetwork,
    hospital: Hospital,
    settings: RunSettings,
    plan: TrainPlan,
    retention: Retention | None = None,
) -> TrainReport:
    """Train on labels, or by the fine stage where there are none."""
    frames, device = hospital.frames_to_train(settings), hospital.device
    # A former self as teacher goes with a plain label loss, here on pseudo-labels.
    if hospital.is_unlabelled and retention is None:
        # Here, so that sites with labels do not wait for what only others need.
        from clients.adaptation.local_steps import train_on_pseudo_labels

        return train_on_pseudo_labels(
            model, frames, plan, device, settings=settings.adapt
        )
    return train_on_labels(model, frames, plan, device, retention=retention)


def _train_at_home(
    settings: RunSettings, hospital: Hospital, job: messages.Job
) -> dict[str, State]:
    """Return the diagonal's control: what overseas steps at home make of a student."""
    if not settings.fedefm.diagonal:
        return {}
    copy = receive_model(hospital.recipe, job.weights, source="the student")
    steps = settings.fedefm.overseas_steps
    plan = plan_phase(settings, job, "at home", hospital, steps)
    _take_steps(copy, hospital, settings, plan)
    return {hospital.name: copy.trainable_state()}


def _trained_reply(
    message: Message,
    hospital: Hospital,
    settings: RunSettings,
    model: SegmentationNetwork,
    report: TrainReport,
    aids: Mapping[str, State] | None = None,
) -> Message:
    learned = labelled_frames(hospital.frames_to_train(settings), hospital.task)
    metrics = {
        messages.NUM_EXAMPLES: len(learned),
        messages.LOSS: mean(report.label_losses or report.losses or [0.0]),
    }
    for key, series in (
        (messages.SCORE, {**report.scores, **report.control_scores}),
        (messages.WEIGHT, report.weights),
        (messages.GAP, report.gaps),
        (messages.TEACHER_LOSS, report.teacher_losses),
    ):
        metrics |= {key + name: mean(values) for name, values in series.items()}
    if report.moments is not None:
        aids = {**(aids or {}), ADAMW: report.moments.to_state()}
    content = pack_reply(
        hospital.name,
        metrics,
        state=_what_may_leave(message, hospital, settings, model),
        wire=settings.wire,
        owner=messages.unpack_owner(message),
        aids=aids,
    )
    return Message(content, reply_to=message)


def _what_may_leave(
    message: Message,
    hospital: Hospital,
    settings: RunSettings,
    model: SegmentationNetwork,
) -> State:
    """Return the trained weights as the site's own file allows them to leave."""
    trained = model.trainable_state()
    # Training on simulated proxies saw nothing of this site.
    saw_nothing = (
        message.metadata.message_type == messages.PROXY
        and settings.fedefm.proxy_frames == "simulated"
    )
    if hospital.privacy.clip_norm <= 0 or saw_nothing:
        return trained
    received = messages.unpack_job(message).weights or {}
    return guard_change(trained, received, hospital.privacy)
