import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from mmadfer.config.model import BottleneckConfig, ClassesConfig, SumConfig, TransformerConfig
from mmadfer.config.schema import CONFIGS, Config, load, parse
from mmadfer.errors import ConfigError
from mmadfer.utils.files import read_yaml

SHIPPED = sorted(CONFIGS.glob("*.yaml"))  # the tables in ablations are sweeps, which other tests load


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_configuration_loads_by_name(path: Path) -> None:
    name = str(path.relative_to(CONFIGS).with_suffix(""))
    assert load(name) == load(path) == load(f"{name}.yaml")


def test_there_are_shipped_configurations() -> None:
    assert {"dfew_160", "mafw_224", "crema_d"} <= {path.stem for path in SHIPPED}


def test_the_default_is_the_published_recipe() -> None:
    config = load("dfew_160")
    train, augment = config.train, config.data.augment
    assert (train.epochs, train.batch_size, train.lr, train.weight_decay, train.seed) == (25, 8, 1e-4, 1e-2, 1)
    assert (augment.brightness, augment.area, augment.ratio, augment.flip) == (
        (0.5, 1.5),
        (0.08, 1),
        (3 / 4, 4 / 3),
        0.5,
    )
    model = config.model
    assert (model.image_size, model.frames, model.prompts, model.drop_path) == (160, 16, 6, 0.1)
    assert (model.fusion, model.joint) == (BottleneckConfig(latent=128, adapters=0), SumConfig(width=512))
    assert (model.vision.width, model.vision.depth, model.vision.heads, model.vision.patch) == (768, 12, 12, 16)
    assert model.temporal == TransformerConfig(depth=1, heads=8, head_width=64, mlp_width=1024)
    assert model.head == ClassesConfig(per="clip", pool=None)
    assert config.prepare.sound.rate == "native"


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    config = load("crema_d", ["data.store=stores/crema_d.store", "model.vision.weights=mae_face.pth"])
    assert load(write(tmp_path, config.to_yaml())) == config


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("train.lr=3e-4", ("train", "lr"), 3e-4),
        ("train.epochs=3", ("train", "epochs"), 3),
        (" train.seed = 7", ("train", "seed"), 7),
        ("data.augment.area=[0.5, 1]", ("data", "augment", "area"), (0.5, 1.0)),
        ("data.labels=[a, b]", ("data", "labels"), ("a", "b")),
        ("data.labels=[de\u0301c\u0327u, b]", ("data", "labels"), ("d\u00e9\u00e7u", "b")),
        ("data.store=/x/a=b.store", ("data", "store"), Path("/x/a=b.store")),
        ("data.store=null", ("data", "store"), None),
        ("prepare.sound.rate=16000", ("prepare", "sound", "rate"), 16000),
        ("model.temporal.depth=2", ("model", "temporal", "depth"), 2),
    ],
)
def test_overrides(override: str, key: tuple[str, ...], value: Any) -> None:
    found: Any = load("dfew_160", [override])
    for part in key:
        found = getattr(found, part)
    assert found == value


def test_the_last_override_wins() -> None:
    assert load("dfew_160", ["train.epochs=3", "train.epochs=4"]).train.epochs == 4


BAD = [
    ("trian.lr=1", r"trian: unknown key: did you mean train\? known here: .*train"),
    ("train.lrr=1", r"train\.lrr: unknown key: did you mean train\.lr\? known here: .*lr"),
    (
        "model.vision.widht=1",
        r"model\.vision\.widht: unknown key: did you mean model\.vision\.width\? known here: .*width",
    ),
    ("train.threads=4", r"train\.threads: unknown key: did you mean data\.threads\?"),
    ("threads=4", r"threads: unknown key: did you mean data\.threads\?"),
    ("model.sound.rate=16000", r"model\.sound: unknown key: did you mean prepare\.sound\?"),
    ("data.flip=0", r"data\.flip: unknown key: did you mean data\.augment\.flip\?"),
    ("model.weights=a.pth", r"model\.weights: unknown key: did you mean model\.\w+\.weights\?"),
    ("train.zzz=1", r"train\.zzz: unknown key; known here: "),
    ("train.lr=0", r"train\.lr: .*greater than 0 \(got 0\)"),
    ("train.lr=.inf", r"train\.lr: .*finite"),
    ("train.lr=.nan", r"train\.lr: .*finite"),
    ("data.augment.brightness=[0.5, .inf]", r"data\.augment\.brightness"),
    ("train.lr=fast", r"train\.lr: .*number.*\(got 'fast'\)"),
    ("train.epochs=2.5", r"train\.epochs: .*integer"),
    ("train.precision=int8", r"train\.precision: .*'fp16' or 'fp8'"),
    ("train.batch_size=0", r"train\.batch_size"),
    ("train.accumulate=3", r"batch_size 8 is not a multiple of accumulate 3"),
    ("model.image_size=100", r"image_size 100 is not a multiple of vision\.patch 16"),
    ("model.vision.heads=7", r"width 768 is not a multiple of heads 7"),
    ("model.vision.depth=8", r"vision\.depth 8 and audio\.depth 12: one must be a multiple"),
    ("model.progressive=4", r"progressive 4 must divide prompts 6, or progressive_tokens say"),
    ("model.progressive=5", r"progressive 5 must divide"),
    ("model.progressive_tokens=4", r"progressive_tokens 4 prompts 6"),
    ("model.branches=audio", r"branches audio has nothing to fuse: it needs fusion none"),
    ("data.augment.area=[0.5, 1.5]", r"cannot be larger than the image"),
    ("data.augment.brightness=[2, 1]", r"low <= high"),
    ("data.test_clips=17", r"data\.test_clips"),
    ("name=a/b", r"name: "),
    ("train=1", r"train: "),
    ("name.x=1", r"name is a value, not a section"),
    ("train.lr", r"must read KEY=VALUE"),
    ("=3", r"must read KEY=VALUE"),
]


@pytest.mark.parametrize(("override", "words"), BAD, ids=[override for override, _ in BAD])
def test_a_bad_value_is_named_with_its_rule(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load("dfew_160", [override])


def test_all_errors_come_at_once_with_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "name: x\ntrain: {lr: -1, epochs: 0}\n")
    with pytest.raises(ConfigError, match=r"(?s)mine\.yaml breaks 2 rule.*train\.epochs.*") as error:
        load(path)
    assert "train.lr" in str(error.value)


ALONE = ["model.prompts=0", "model.fusion=none", "model.temporal=none"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([*ALONE, "model.branches=vision", "data.modalities=audio"], r"vision never looks at the audio"),
        ([*ALONE, "model.branches=vision", "data.augment.drop_audio=0.1"], r"drop_audio .* only vision: set 0"),
        (["data.modalities=audio", "data.augment.drop_audio=0.1"], r"drop_audio .* only audio: set 0"),
        (["model.progressive=0", "model.progressive_tokens=3"], r"progressive_tokens 3 needs prompts and progressive"),
        (["model.joint=none"], r"joint none takes the summaries of one encoder, and branches is both"),
        (["model.joint=concat", "model.branches=vision", "model.fusion=none"], r"joint concat joins two encoders, and"),
        (["model.joint=jmt", "model.branches=audio", "model.fusion=none"], r"branches is audio: take joint sum"),
        (["model.joint=jmt", "model.frames=12"], r"each of 12 frames an equal stretch of sound, which has 32 rows"),
        (["model.joint={name: jmt, heads: 3}"], r"joint\.width 512 is not a multiple of joint\.heads 3"),
        (["model.joint={name: jmt, combine: tokns}"], r"model\.joint: combine: .*'tokens', 'concat' or 'pair'"),
        (["model.joint=jtm"], r"model\.joint: there is no joint 'jtm': did you mean jmt\?"),
        (["model.head=values_mlp"], r"task classification needs logits of classes: set model\.head: classes"),
        (["task.loss=ccc"], r"task: loss ccc is of values, but task classification gives classes"),
        (["model.temporal=none", "model.head.pool=cls"], r"cls needs a CLS token, which temporal none does not give"),
        (["model.head={per: step, pool: mean}"], r"head\.pool mean is for outputs per clip"),
        (["model.head={name: values, range: [1, 1]}"], r"head\.range is \[1\.0, 1\.0\]; it must be \[low, high\]"),
        (["model.head.per=step"], r"per step gives an output for each step, but task classification takes one a clip"),
        (
            ["model.head={name: values}"],
            r"task classification needs logits of classes: set model\.head: classes, or another task",
        ),
        (
            ["task={name: regression, values: {arousal: [0, 1]}}", "model.head=values"],
            r"task\.values\.arousal is \[0\.0, 1\.0\], but model\.head\.range \[-1\.0, 1\.0\]",
        ),
        (["task.target=emotion"], r"task: target is emotion, but task classification gives classes, and those are the"),
        (["task.loss=mse"], r"task: loss mse is of values, but task classification gives classes: .*\(cross_entropy\)"),
        (
            ["task={name: regression, loss: cross_entropy, values: {arousal: [-1, 1]}}", "model.head=values"],
            r"task: loss cross_entropy is of classes, but task regression gives values: .*\(mse\)",
        ),
        (
            ["task={name: regression, label_smoothing: 0.1, values: {arousal: [-1, 1]}}", "model.head=values"],
            r"task: label_smoothing 0\.1 is of labels of classes, .*task regression gives values, and its loss is mse",
        ),
        (["model.positions=frozen"], r"positions frozen leaves those of 6 prompts undrawn"),
        (["model.fusion={name: mult, latent: 7}"], r"model\.fusion: latent: .*multiple of 2 \(got 7\)"),
        (["model.fusion=bottlneck"], r"model\.fusion: there is no fusion 'bottlneck': did you mean bottleneck\?"),
        (
            ["model.fusion={latnt: 4}"],
            r"fusion: latnt: unknown key: did you mean latent\? known here: adapters, latent",
        ),
        (["model.fusion={name: none, latent: 4}"], r"model\.fusion: latent: unknown key; known here: name"),
        (["model.latent=4"], r"model\.latent: unknown key: did you mean model\.fusion\.latent\?"),
        (["data.augment.drop_vision=0.6", "data.augment.drop_audio=0.6"], r"add up to more than 1"),
        (["train.ema=0.9", "train.zero_stage=3"], r"ema does not go with weights spread"),
        (["model.vision.width=1024", "model.vision.heads=16", "model.fusion=add"], r"encoders of one width"),
    ],
    ids=lambda given: given[-1] if isinstance(given, list) else "",
)
def test_keys_that_contradict_each_other_are_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load("dfew_160", overrides)


def test_a_long_value_is_cut_in_the_message(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train: .*\(got \[0, 1, .*\.\.\.\]\)") as error:
        load(write(tmp_path, f"name: x\ntrain: {list(range(500))}\n"))
    assert len(str(error.value)) < 300 + len(str(tmp_path))


def test_no_such_file_lists_the_shipped_ones() -> None:
    with pytest.raises(ConfigError, match=r"no configuration 'nope'.*crema_d, .*dfew_160"):
        load("nope")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "not valid YAML"),
        ("- a\n- b\n", "not a list"),
        ("", "name: "),
        ("train: {lr: 1}\ntrain: {epochs: 2}\n", "'train' is there twice"),
    ],
)
def test_a_broken_file_is_explained(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(write(tmp_path, text))


def test_a_file_that_is_no_text_is_explained(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load(tmp_path / "mine.yaml")


def test_yaml_never_makes_objects(tmp_path: Path) -> None:
    path = write(tmp_path, "name: !!python/object/apply:os.system ['touch " + str(tmp_path / "ran") + "']\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load(path)
    assert not (tmp_path / "ran").exists()


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        load("dfew_160").train.lr = 1


def test_plain_yaml_comes_out() -> None:
    tree = yaml.safe_load(load("mafw_224").to_yaml())
    assert isinstance(tree, dict)
    assert parse(tree, where="here") == load("mafw_224")
    assert set(tree) == set(Config.model_fields)


def _laughs(levels: int) -> str:
    """Each key's value is the one before, nine times."""
    lines, before = ["name: x", "train:", "  k0: &k0 [x, x, x, x, x, x, x, x, x]"], "k0"
    for key in (f"k{n}" for n in range(1, levels)):
        lines.append(f"  {key}: &{key} [{', '.join([f'*{before}'] * 9)}]")
        before = key
    return "\n".join(lines) + "\n"


ODD_YAML = {
    "a date that is none": "name: x\ntrain: {lr: 2020-99-99}\n",
    "int": "name: x\ntrain: {lr: !!int abc}\n",
    "float": "name: x\ntrain: {lr: !!float abc}\n",
    "bool": "name: x\ntrain: {lr: !!bool abc}\n",
    "timestamp": "name: x\ntrain: {lr: !!timestamp abc}\n",
    "binary": "name: x\ntrain: {lr: !!binary é}\n",
    "map of a word": "name: x\ntrain: !!map foo\n",
    "set of a word": "name: x\ntrain: !!set foo\n",
    "omap of a word": "name: x\ntrain: !!omap foo\n",
    "an unknown tag": "name: x\ntrain: !!python/object/apply:os.system [true]\n",
    "brackets": "name: x\ntrain: " + "[" * 3000 + "]" * 3000 + "\n",
    "braces": "name: x\ntrain: " + "{a: " * 3000 + "}" * 3000 + "\n",
    "open brackets": "name: x\ntrain: " + "[" * 300_000,
    "blocks": "name: x\n" + "".join(" " * k + "a:\n" for k in range(300)),
    "5,000 digits": "name: x\ntrain: {lr: " + "1" * 5000 + "}\n",
    "hexadecimal digits": "name: x\ntrain: {lr: 0x" + "f" * 50_000 + "}\n",
    "base 60": "name: x\ntrain: {lr: 1" + ":01" * 200_000 + "}\n",
    "base 60, a fraction": "name: x\ntrain: {lr: 1" + ":01" * 200_000 + ".5}\n",
    "ten times nine aliases": _laughs(10),
    "merged aliases": "name: x\nb0: &b0 {a: 1, b: 2}\n" + "".join(
        f"b{k + 1}: &b{k + 1} {{x: *b{k}, y: *b{k}, <<: *b{k}}}\n" for k in range(40)
    ),
    "an alias in itself": "name: x\ntrain: &a [*a]\n",
    "an alias of a key in itself": "name: x\ntrain: &a {lr: *a}\n",
    "an alias of nothing": "name: x\ntrain: *a\n",
    "a list as a key": "name: x\n? [a, b]\n: 1\n",
    "aliases in keys": "name: x\na: &a [x, x]\n? {? [*a, *a]: 1}\n: 2\n",
    "a key twice": "name: x\nname: y\n",
    "two documents": "name: x\n---\nname: y\n",
    "many values": "name: x\ntrain: [" + "1," * 30_000 + "]\n",
    "a control character": "name: x\x07\n",
    "larger than any": "name: x\n" + "#" * (1 << 20),
}  # fmt: skip


@pytest.mark.parametrize("text", ODD_YAML.values(), ids=ODD_YAML.keys())
def test_yaml_that_its_reader_falls_over_is_refused(tmp_path: Path, text: str) -> None:
    begun = time.process_time()
    with pytest.raises(ConfigError, match=r"mine\.yaml is not valid YAML") as caught:
        load(write(tmp_path, text))
    assert time.process_time() - begun < 10
    assert len(str(caught.value)) < 1000 + len(str(tmp_path))


def test_yaml_that_is_no_text_or_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"name: \xff\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml is not valid YAML: .* is not UTF-8"):
        load(tmp_path / "mine.yaml")
    with pytest.raises(ConfigError, match="must be a regular file"):
        read_yaml(tmp_path)


@pytest.mark.parametrize(
    "text", ["2020-99-99", "!!int abc", "!!timestamp x", "&a [*a]", "9" * 5000, "{a: 1, a: 2}", "*a", "[" * 50]
)
def test_values_that_yaml_cannot_make_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--set train\.lr is not valid YAML"):
        load("demo", [f"train.lr={text}"])


@pytest.mark.parametrize("text", ["[" * 3000, "[" * 50 + "]" * 50])
def test_values_without_end_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"train\.lr"):
        load("demo", [f"train.lr={text}"])


def test_text_that_is_no_yaml_is_taken_as_it_is() -> None:
    assert load("demo", ["data.store=a: b: [c"]).data.store == Path("a: b: [c")
    with pytest.raises(ConfigError, match="breaks 1 rule"):
        load("demo", [f"{'a.' * 30_000}b=1"])


def test_an_override_changes_one_of_two_aliases(tmp_path: Path) -> None:
    text = "name: x\nmodel:\n  vision: &e {width: 64, heads: 1}\n  audio: *e\n"
    model = load(write(tmp_path, text), ["model.vision.heads=2"]).model
    assert (model.vision.heads, model.audio.heads, model.audio.width) == (2, 1, 64)


@pytest.mark.parametrize(
    "key",
    ["train.epochs", "train.batch_size", "train.seed", "data.folds", "data.threads", "prepare.detect_every"],
)
def test_settings_ask_for_nothing_absurd(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key}\S*: Input should be less than"):
        load("demo", [f"{key}={10**30}"])


def based(folder: Path, **files: str) -> Path:
    """Write files into a folder; the last one's path."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder / f"{list(files)[-1]}.yaml"


def test_a_configuration_changes_its_base(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    based(tmp_path, house="name: house\nbase: mafw_224\ntrain: {epochs: 3, lr: 1.0e-3}\nmodel: {vision: {seed: 5}}\n")
    mine = based(
        tmp_path / "below", mine="name: mine\nbase: ../house.yaml\ntrain: {lr: 2.0e-3}\ndata: {labels: [a, b]}\n"
    )
    found, published = load(mine, ["train.seed=9"]), load("mafw_224")
    assert (found.name, found.train.epochs, found.train.lr, found.train.seed) == ("mine", 3, 2e-3, 9)
    assert found.data.labels == ("a", "b")  # a list is replaced as a whole
    assert found.model.vision.seed == 5
    assert found.model.image_size == published.model.image_size
    assert found.prepare == published.prepare
    whole = tmp_path / "whole.yaml"
    whole.write_text(found.to_yaml())
    assert "base" not in read_yaml(whole)
    assert load(whole) == found


def test_a_base_beside_the_file_comes_before_a_shipped_one(tmp_path: Path) -> None:
    path = based(tmp_path, demo="name: x\ntrain: {epochs: 7}\n", mine="name: mine\nbase: demo.yaml\n")
    assert load(path).train.epochs == 7
    assert load(based(tmp_path, mine="name: mine\nbase: demo\n")).train.epochs == load("demo").train.epochs


def test_a_section_that_names_a_part_replaces_that_of_the_base(tmp_path: Path) -> None:
    one = "name: one\nbase: demo\nmodel: {fusion: {adapters: 8}}\n"
    two = "name: two\nbase: one.yaml\nmodel: {fusion: {name: mult, latent: 16}}\n"
    path = based(tmp_path, one=one, two=two)
    kept, other = load(tmp_path / "one.yaml").model.fusion, load(path).model.fusion
    assert kept.model_dump() == {"name": "bottleneck", "latent": 32, "adapters": 8}
    assert other.model_dump() == {"name": "mult", "latent": 16}  # adapters are no key of it


def test_a_name_is_not_inherited(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mine\.yaml breaks 1 rule.*\n  name: Field required$"):
        load(based(tmp_path, mine="base: demo\n"))


BASES = {
    "itself": ({"mine": "name: a\nbase: mine.yaml\n"}, r"base goes in a circle: \S*mine\.yaml -> \S*mine\.yaml"),
    "a circle": (
        {
            "one": "name: a\nbase: two.yaml\n",
            "two": "name: b\nbase: ./mine.yaml\n",
            "mine": "name: c\nbase: one.yaml\n",
        },
        r"circle: \S*mine\.yaml -> \S*one\.yaml -> \S*two\.yaml -> \S*mine\.yaml",
    ),
    "nothing": ({"mine": "name: a\nbase: nope\n"}, r"mine\.yaml: base: no configuration 'nope'.*dfew_160"),
    "no text": ({"mine": "name: a\nbase: [demo]\n"}, r"mine\.yaml: base: it must be a file or the name .*\['demo'\]"),
    "broken": ({"one": "a: [\n", "mine": "name: a\nbase: one.yaml\n"}, r"one\.yaml is not valid YAML"),
    "too many": (
        {f"b{n}": f"name: a\nbase: b{n - 1}.yaml\n" for n in range(1, 18)},
        r"b17\.yaml has more than 16 bases",
    ),
}


@pytest.mark.parametrize(("files", "words"), BASES.values(), ids=BASES.keys())
def test_bases_that_lead_nowhere_are_refused(tmp_path: Path, files: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(based(tmp_path, **files))


def test_a_circle_through_a_link_is_one(tmp_path: Path) -> None:
    path = based(tmp_path, mine="name: a\nbase: link.yaml\n")
    (tmp_path / "link.yaml").symlink_to(path)
    with pytest.raises(ConfigError, match="circle"):
        load(path)


def test_an_error_names_the_file_that_the_bad_value_stands_in(tmp_path: Path) -> None:
    text = "name: a\nbase: one.yaml\ntrain: {epochs: 0}\n"
    path = based(tmp_path, one="name: b\ntrain: {lr: -1, batchsize: 4}\nmodel: {image_size: 100}\n", mine=text)
    with pytest.raises(ConfigError) as caught:
        load(path, ["train.seed=x"])
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{path} breaks 5 rule(s):"
    stands = {line.split(":")[0].strip(): line.rpartition(" [")[2] for line in lines[1:]}
    one = f"{tmp_path / 'one.yaml'}]"
    assert (stands["train.lr"], stands["train.batchsize"], stands["model"]) == (one, one, one)
    assert stands["train.seed"] == "--set]"
    assert str(tmp_path) not in stands["train.epochs"]
    assert "did you mean train.batch_size?" in str(caught.value)


def test_a_base_is_no_override() -> None:
    with pytest.raises(ConfigError, match="a base stands in a file"):
        load("demo", ["base=dfew_160"])
