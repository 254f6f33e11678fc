"""What a launch would do, in words."""

from mmadfer.launch.jobs import FoldJob
from mmadfer.launch.launching import Launch, join
from mmadfer.launch.resources import Resources
from mmadfer.run import code_snapshot


def describe_launch(task: Launch) -> str:
    """What a dry run prints: the run, the code, the jobs and their environment, and on SLURM the sbatch files."""
    code_snapshot.check_copy(task.run, task.trust)
    resources, todo = task.resources, task.todo()
    done = sorted(set(task.folds) - set(todo))
    lines = [
        f"run          {task.run}",
        f"config       {task.config.name}: {task.config.train.epochs} epochs, batch {task.config.train.batch_size}",
        f"code         {len(code_snapshot.sources())} files, copied to {task.run / 'code'}",
        f"folds        {join(todo) or 'none'} ({resources.parallel} at a time, {resources.cluster})",
        *([f"finished     {join(done)}: not trained again"] if done else []),
        *(f"{key:<12} fold by fold from {path}" for key, path in task.config.stages.parents.items()),
        *(f"environment  {key}={value}" for key, value in task.environment.items()),
        *(_job(job, resources) for job in task.jobs()),
        "report       when all folds have ended",
        *(["export       each finished fold, after the report"] if task.export else []),
    ]
    if resources.cluster == "slurm" and todo:
        from mmadfer.launch.slurm import submit

        waits = task.waits()
        lines += [f"waits        fold {fold} for SLURM job {', '.join(ids)}" for fold, ids in waits.items() if ids]
        texts = submit.texts(task.run, task.config.name, waits, resources, task.environment, task.export)
        lines += ["", *(line for name, text in texts.items() for line in (f"--- sbatch: {name}", text))]
    return "\n".join([*lines, "Dry run: nothing was made or submitted."])


def _job(job: FoldJob, resources: Resources) -> str:
    ranks = resources.ranks_per_node * resources.nodes
    gpus = join(job.devices or ()) or "none" if resources.cluster == "local" else str(resources.gpus)
    return f"job          fold {job.fold}: {ranks} rank(s), GPUs {gpus}, {job.threads} CPU thread(s) per rank"
