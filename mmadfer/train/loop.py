"""Training one fold: epochs, tests, checkpoints and the result.

Every optimizer step is a pure function of the state that checkpoints hold and of (seed, epoch, step). So a run that was
stopped or killed goes on to the same final weights, bit for bit on one machine.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import cast

from mmadfer.config.schema import Config
from mmadfer.contract import Contract, left_out, licences, used
from mmadfer.data.aligned_clips import aligned
from mmadfer.data.compatibility import adopted, mostly_cropped, sound_rates
from mmadfer.data.fold_clips import labels_of, steps_per_epoch, test_clips, used_clips, validation_clips
from mmadfer.data.loading.adaptation import AdaptationSampler, fold_sampler, label_shares
from mmadfer.data.loading.batch import Batch
from mmadfer.data.loading.loader import Loader, batches, epoch_picks, place
from mmadfer.data.loading.samplers import Pick
from mmadfer.data.store.store import Store
from mmadfer.data.training_files import check_clips, store_path
from mmadfer.distributed.fold_lease import alone
from mmadfer.distributed.ranks import Ranks, connected, on_all_ranks
from mmadfer.distributed.signals import stop_on_signals
from mmadfer.errors import TrainingError
from mmadfer.evaluation.evaluate import run_test
from mmadfer.evaluation.predictions import Scored
from mmadfer.model.mma_dfer import MMADFER
from mmadfer.model.weights.build import build_model, encoder_hash
from mmadfer.run.checkpoint_state import Belonging, Progress
from mmadfer.run.lease import Held
from mmadfer.tasks.tables import VALIDATION, of_events
from mmadfer.train.adaptation import ADAPTATION, UNADAPTED, Adaptation
from mmadfer.train.checkpoint import SAMPLER, Checkpoints
from mmadfer.train.deepspeed_engine import Engine
from mmadfer.train.features import FeatureFile, FeatureLoader
from mmadfer.train.feedback import Feedback
from mmadfer.train.finite_checks import StepOutcome, StepReport, Strikes
from mmadfer.train.log import Log, Pace
from mmadfer.train.parents import Parents
from mmadfer.train.profiler import Trace, next_items
from mmadfer.train.result import Result, calibration, publish, read_finished
from mmadfer.train.schedules import learning_rate
from mmadfer.train.sentences import data_origin, note_text, ranks_sentences, text_read
from mmadfer.train.spent import Spent
from mmadfer.utils.durations import duration
from mmadfer.utils.logs import logger
from mmadfer.version import VERSION

LOGGER = logger(__name__)

_Stop = Callable[[], bool]


def train(
    config: Config, fold: int, folder: Path, resume: bool = False, stop: _Stop | None = None, profile: bool = False
) -> Result:
    """Train one fold, as one of the ranks that the environment tells of (a single one by default).

    Args:
        config: all of it; `data.store` must be set.
        fold: the test fold, from 1; the others are trained on.
        folder: the fold directory; it holds everything that training writes.
        resume: go on from the newest whole checkpoint, if there is one; a finished fold returns its result at once.
        stop: asked at the end of each step; by default, SIGTERM, SIGUSR2 and ctrl-C.
        profile: let rank 0 record a few steps; see `mmadfer.train.profiler`.

    Raises:
        RunError: the directory has been begun and `resume` is off, its checkpoints belong to another run, or another
            process is training it.
        LostError: another start of this training has taken the fold over; this one has left it alone since.
        ConfigError, DataError, WeightsError: the configuration, the store, or encoder files cannot be used.
        TrainingError: three steps in a row were not finite, the disk is full, or another rank is gone.
    """
    folder = Path(folder)
    with stop_on_signals() if stop is None else nullcontext(stop) as asked, connected() as ranks:
        if resume and (done := read_finished(fold, folder, config.task.spec, ranks)):
            if profile and ranks.main:
                LOGGER.info(f"fold {fold}  no trace: the fold is finished, and no step is left to record")
            return done
        with alone(folder, resume, ranks, asked) as held:
            if resume and (
                done := read_finished(fold, folder, config.task.spec, ranks)
            ):  # by the process that had the fold until now
                return done
            with closing(Trainer(config, fold, folder, ranks, held, asked)) as trainer:
                trainer.trace = Trace(folder, held, trainer.log.say, on=profile and ranks.main)
                result = trainer.run(resume)
                ranks.barrier()  # gloo sometimes aborts where a rank leaves while another still talks
                return result


class Trainer:
    """One fold in the making, on one of its ranks."""

    echo: Callable[[str], None] | None = None
    """Where its lines go beside log.txt; None: to the terminal."""

    def __init__(self, config: Config, fold: int, folder: Path, ranks: Ranks, held: Held, stop: _Stop) -> None:
        self.fold, self.folder, self.ranks, self.held = fold, folder, ranks, held
        self.stop = lambda: stop() or held.lost  # then the save that follows fails, on all ranks
        self.store = Store(store_path(config))
        config, self.prepared = adopted(config, self.store)
        self.config = config
        check_clips(config, self.store, [fold])
        self.tokens = ranks_sentences(config, self.store, ranks)
        self.text = self.tokens.facts if self.tokens else None
        self.labels = labels_of(config, self.store)
        self.steps = steps_per_epoch(config, self.store, fold)
        self.validation = validation_clips(config, self.store, fold)
        self.sampler = fold_sampler(config, self.store, fold)
        batches(config, self.store, fold, 0, rank=ranks.rank, world=ranks.world)  # refuses what the ranks do not divide
        self.log = Log(folder, held, ranks.main, f"fold {fold}  ", self.echo)
        self.trace = Trace(folder, held, self.log.say, on=False)
        made = FeatureLoader if config.adapt and config.adapt.trains == "temporal" else Loader
        self.loader = made(self.store, config, self.labels, place(ranks.device), self.tokens)
        self.parents, model = self._beginning()
        self.read = text_read(self.tokens, model)
        self.begins = self.parents.begin(model)
        self.encoder_hash = encoder_hash(model)
        self.engine = Engine(model, config.train, ranks, config.task, self.parents.teacher(self.labels), config.adapt)
        self.feedback = Feedback(self.sampler, ranks)
        self.engine.each, self.engine.observed = [] if self.sampler.observes else None, self.sampler.observed
        self.parents.check_text(self.text)
        origin, labels = data_origin(self.store, self.text), list(self.labels)
        belonging = Belonging(config.model_dump(mode="json"), fold, origin, labels, self.encoder_hash, ranks.world)
        self.checkpoints = Checkpoints(folder, held, belonging, config.train.keep, ranks, self.log.say)
        self.at, self.strikes, self.pace = Progress(), Strikes(), Pace()
        self.adaptation = self._adaptation()
        self.said: dict[str, Scored] = {}
        """Of the last test, by kind."""
        self.spent = Spent(ranks)

    def run(self, resume: bool) -> Result:
        """All epochs that are left, then the result."""
        if not self._begin(resume):
            return self._stopped(saved=False)
        while self.at.epoch < self.config.train.epochs:
            if not (self._label() and self._steps() and self._test()):
                return self._stopped()
        return self._end()

    def close(self) -> None:
        """Free what training holds."""
        self.trace.close()
        self.log.close()
        self.loader.close()
        self.engine.close()
        self.store.close()

    def _beginning(self) -> tuple[Parents, MMADFER]:
        """The fold's parents, and its model, which `parents.begin` has not been given yet."""
        outputs = len(self.config.task.values or self.labels)
        model = build_model(self.config.model, outputs, self.config.train.seed)
        return Parents(self.config, self.store, self.fold), model

    def _adaptation(self) -> Adaptation | None:
        if not isinstance(self.sampler, AdaptationSampler):
            return None
        at = (self.config, self.store, self.fold, self.validation)
        return Adaptation(*at, self.sampler, self.engine, self.loader, self.log, self.stop)

    def _begin(self, resume: bool) -> bool:
        """Go on from a checkpoint, or from the beginning; False where the ranks were asked to stop."""
        found = self.checkpoints.load(self.engine) if resume else None
        self.at = found or self.spent.begin()
        if found and self.sampler.observes:
            self.feedback.load(self.checkpoints.note(SAMPLER), self.at.step * self.config.train.batch_size)
        on_all_ranks(self.ranks, self.held, self.folder, partial(self.parents.note, self.folder.parent))
        on_all_ranks(self.ranks, self.held, self.folder, partial(note_text, self.folder, self.fold, self.read))
        self.log.open(self.at.total, self.config, self.fold)
        how = {"precision": self.config.train.precision, "compiled": self.engine.compiled}
        ranks, threads = self.ranks, self.loader.threads
        self.log.event("begin", **how, device=ranks.hardware, ranks=ranks.world, threads=threads)
        if self.engine.compiled:
            self.log.say("compiling the encoders' layers: the first steps wait for it, for up to a minute or two")
        if self.prepared:
            self.log.say(f"WARNING: {self.prepared}")
        if self.tokens and (long := self.tokens.cut(clip.id for clip in used_clips(self.config, self.store))):
            self.log.say(f"WARNING: {long}")
        if self.config.task.align:
            self.log.say(str(aligned(self.config, self.store, self.fold)))
        if self.config.stages.teacher and not self.config.taught:
            self.log.say("WARNING: nothing is learnt from stages.teacher: set task.distill, or leave the teacher out")
        if found:
            self.log.event("resume", epoch=self.at.epoch + 1, step=self.at.total)
            self.log.say(f"going on after step {self.at.total}, in epoch {self.at.epoch + 1}")
        elif resume:
            self.log.say("no checkpoint yet: starting from the beginning")
        if self.begins and not found:
            self.log.say(self.begins)
        self.spent.start()
        return self.adaptation is None or self._begin_adaptation(self.adaptation, found is not None)

    def _begin_adaptation(self, adaptation: Adaptation, found: bool) -> bool:
        """False where the ranks were asked to stop; nothing is saved, for nothing is to be gone on from."""
        state = self.checkpoints.note(ADAPTATION) if found else None
        origin = self.checkpoints.belonging.data
        if not adaptation.begin(state, FeatureFile(self.folder, self.held, self.ranks, origin)):
            return False
        self.steps = steps_per_epoch(self.config, self.store, self.fold, len(adaptation.sampler.clips))
        if adaptation.first is not None:
            write = partial(self.held.write_text, self.folder / UNADAPTED, adaptation.first.csv())
            on_all_ranks(self.ranks, self.held, self.folder / UNADAPTED, write)
        if not self.at.total:
            self.log.event("unadapted", epoch=1, step=1, **adaptation.scores)
        return True

    def _label(self) -> bool:
        """Pseudo-labels, where an epoch begins with them; False where the ranks were asked to stop, and have saved."""
        if self.adaptation is None or self.at.step or self.adaptation.label(self.at.epoch, self.at.total):
            return True
        self.save()
        return False

    def _steps(self) -> bool:
        """The rest of the epoch's steps; False where the ranks were asked to stop, and have saved."""
        train, ranks = self.config.train, self.ranks
        ids = self._share(ranks.rank, self.at.step)
        self.pace, waiting = Pace(), deque[StepReport]()
        with closing(cast(Generator[Batch], self.loader.train(self.at.epoch, ids))) as stream:
            while micro := next_items(stream, train.accumulate):
                waiting.append(self.engine.step(micro, self._rate(self.at.step + len(waiting)), self.stop))
                self.feedback.note(self.engine.each or ())
                self.trace.step()
                done = self.at.step + len(waiting)
                due = (self.at.total + len(waiting)) % train.save_every == 0 and done < self.steps
                stopping = self._count_all(waiting, 0 if due or done == self.steps else self.engine.lag)
                if stopping:
                    self._count_all(waiting, 0)
                if stopping or due:
                    self.save()
                if stopping:
                    return False
        return True

    def _count_all(self, waiting: deque[StepReport], left: int) -> bool:
        """Count the steps that are done, but for the last few; whether any rank was asked to stop."""
        stopping = False
        while len(waiting) > left:
            outcome = waiting.popleft().read()
            self._count(outcome)
            stopping |= outcome.stop
        return stopping

    def _count(self, outcome: StepOutcome) -> None:
        at = self.at
        at.step, at.total = at.step + 1, at.total + 1
        where = {"epoch": at.epoch + 1, "step": at.total}
        if outcome.finite:
            if lost := at.count(outcome.loss, outcome.parts):
                what = f"{', '.join(lost)} of the task is not finite at step {at.total}"
                self.log.say(
                    f"WARNING: {what}, so epoch {at.epoch + 1} has no mean of it; only the loss must be finite"
                )
            if at.total % self.config.train.log_every == 0:
                told = {"loss": outcome.loss, **outcome.parts, "lr": self._rate(at.step - 1), "norm": outcome.norm}
                self.log.event("step", **where, **told)
        else:
            clips = [clip for rank in outcome.culprits for clip in self._clips(rank, at.step - 1)]
            self.log.event("skip", **where, reason=outcome.explain(), ids=clips)
            self.log.say(
                f"WARNING: step {at.total} was skipped, its loss or gradient is not finite: {outcome.explain()}"
            )
        self.strikes.see(outcome, at.total)
        if self.pace.tick():
            self.log.say(f"{self._epoch()}  step {at.step}/{self.steps}  loss {outcome.loss:.3f}  {self._speed()}")

    def _rate(self, step: int) -> float:
        """The learning rate of a step of this epoch, from 0."""
        return learning_rate(self.config.train, self.at.epoch, step, self.steps)

    def _share(self, rank: int, step: int) -> list[list[Pick]]:
        """What a rank trains on from `step` of this epoch on: micro-batches of clips."""
        at, world = (self.config, self.store, self.fold, self.at.epoch), self.ranks.world
        return batches(*at, rank=rank, world=world, start_step=step, sampler=self.sampler)

    def _clips(self, rank: int, step: int) -> list[str]:
        """The clips of one rank in one step of this epoch."""
        picked = self._share(rank, step)[: self.config.train.accumulate]
        return [name for picks in picked for pick in picks for name in pick.names]

    def _test(self) -> bool:
        """The epoch's test and checkpoint; False where the ranks were asked to stop, and have saved."""
        if not self.at.losses:
            raise TrainingError(
                f"all {self.at.step} steps of epoch {self.at.epoch + 1} were skipped, for no loss or gradient was "
                "finite: nothing was learnt. Check the encoder files and the store (`mmadfer doctor STORE`); "
                "metrics.jsonl names the clips"
            )
        self.said, scores = {}, dict[str, float]()
        for kind, ids in self._tested():
            found = run_test(self.engine.logits, self.loader, ids, self.ranks, self.stop)
            if found is None:
                self.save()
                return False
            self.said[kind] = found
            scores |= {kind + name: value for name, value in found.scores().items()}
        self._score(scores)
        self.save()
        return True

    def _tested(self) -> Iterator[tuple[str, list[str]]]:
        """What is tested after this epoch; with clips for validation, the test fold only after the last one."""
        if self.validation:
            yield VALIDATION, self.validation
        if not self.validation or self.at.epoch + 1 >= self.config.train.epochs:
            yield "", test_clips(self.config, self.store, self.fold)

    def _score(self, scores: dict[str, float]) -> None:
        at = self.at
        loss = at.loss / at.losses
        parts = {name: None if total is None else total / at.losses for name, total in at.parts.items()}
        lr, text = self._rate(self.steps - 1), self._epoch()
        self.feedback.end_epoch(epoch_picks(self.config, self.store, self.fold, at.epoch, self.sampler))
        at.end_epoch(scores, self.config.task.spec)
        seconds, speed = self.pace.seconds, self.pace.speed * self.config.train.batch_size
        self.log.event(
            "epoch",
            **{"epoch": at.epoch, "step": at.total, "loss": loss, **parts, "lr": lr, **scores},
            **{"seconds": seconds, "clips_per_second": speed},
        )
        left = duration(round(self.pace.epoch(self.steps) * (self.config.train.epochs - at.epoch)))
        told = "  ".join(
            f"{title} {score.shown(scores[key], 1)}"
            for key, title, score in of_events(self.config.task.spec)
            if key in scores
        )
        self.log.say(f"{text}  loss {loss:.3f}  {told}  {self._speed()}  left {left}")

    def save(self) -> None:
        """Publish a checkpoint of where training is now."""
        self.spent.add(self.at)
        adapted = None if self.adaptation is None else self.adaptation.state()
        notes = {SAMPLER: self.feedback.state(), ADAPTATION: adapted}
        self.checkpoints.save(self.engine, self.at, self._contract(), notes)

    def _contract(self) -> Contract:
        found = Contract(
            labels=() if self.config.task.values else tuple(self.labels),
            output=self.config.task.spec.output,
            values=self.config.task.values,
            model=self.config.model,
            prepare=self.store.prepare,
            data_set=self.store.data_set,
            task=self.config.task.name,
            target=self.config.task.compared,
            modalities=used(self.config),
            window=self.config.data.window,
            sound_rates=tuple(sound_rates(self.store.clips.values())),
            cropped=mostly_cropped(self.store),
            store=self.store.header.fingerprint,
            split=self.config.data.split,
            folds=self.config.data.folds,
            fold=self.fold,
            epoch=self.at.epoch,
            epochs=self.config.train.epochs,
            precision=self.config.train.precision,
            priors=label_shares(self.config, self.store, self.fold, self.sampler),
            **({} if self.at.step else calibration(self.said.get(VALIDATION), self.config.data)),
            missing=left_out(self.config),
            metrics={} if self.at.step else self.at.metrics,  # in an epoch, they are of earlier weights
            encoder_hash=self.encoder_hash,
            licences=licences(self.config.model),
            text=self.text,
            version=VERSION,
        )
        return self.parents.inherit(found)

    def _stopped(self, saved: bool = True) -> Result:
        self.log.event("stop", epoch=self.at.epoch + 1, step=self.at.total)
        done = "and saved" if saved else "with nothing to save"
        self.log.say(f"stopped {done} after step {self.at.total}; --resume goes on from there")
        return Result(self.fold, self.folder, False, self.at.epoch, self.config.train.epochs)

    def _end(self) -> Result:
        """The result of the last epoch; after a crash between the last checkpoint and it, the test is run again."""
        for kind, ids in () if "" in self.said else self._tested():
            found = run_test(self.engine.logits, self.loader, ids, self.ranks)
            assert found is not None
            self.said[kind] = found
        scores, at, epochs = self.said[""].scores(), self.at, self.config.train.epochs
        self.log.event("end", epoch=at.epoch, step=at.total, **scores, seconds=at.seconds)
        unadapted = None if self.adaptation is None else self.adaptation.unadapted
        write = partial(publish, self.held, self.folder, self.fold, epochs, at, self.said, unadapted)
        on_all_ranks(self.ranks, self.held, self.folder / "result.json", write)
        return Result(self.fold, self.folder, True, at.epoch, epochs, scores)

    def _epoch(self) -> str:
        return f"epoch {self.at.epoch + 1}/{self.config.train.epochs}"

    def _speed(self) -> str:
        return f"{self.pace.speed * self.config.train.batch_size:.1f} clips/s"
