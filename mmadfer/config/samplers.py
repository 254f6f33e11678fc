"""The samplers of training clips, by the name in `data.sampler`; nothing here imports torch."""

from mmadfer.utils.registry import Registry

SAMPLERS = Registry(
    "sampler",
    "mmadfer.samplers",
    {
        "shuffle": "mmadfer.data.loading.samplers:Sampler",
        "balanced": "mmadfer.data.loading.samplers:Balanced",
        "by_subject": "mmadfer.data.loading.samplers:BySubject",
        "tss": "mmadfer.data.loading.stochastic_softmax:StochasticSoftmax",
    },
)
