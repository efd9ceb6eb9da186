"""Write students as other programs read them, and try each there on real recordings."""

import logging
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from functools import cached_property
from importlib import metadata
from pathlib import Path

import numpy as np
import sherpa_onnx
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn

from deploy_executorch import for_executorch, for_executorch_stream
from deploy_streams import Telephone, for_onnx_asr, for_sherpa_stream, for_stream
from export import NotExported, distance, fitting, recordings, reference, unparametrize, write_onnx
from speech_pareto.data.audio import SAMPLE_RATE
from speech_pareto.models import architecture, lookahead, modeling_student
from speech_pareto.models.backbone import describe, load
from speech_pareto.models.model_folder import CONFIG, FEATURES, PREPROCESSOR, WEIGHTS
from speech_pareto.models.onnx_int8 import DYNAMIC, quantise
from speech_pareto.models.quantisation import number_format
from speech_pareto.reporting import budget, model_card, programs
from speech_pareto.reporting.tables import points
from speech_pareto.runtime import result
from speech_pareto.runtime.files import whole_folder
from speech_pareto.runtime.provenance import meta
from speech_pareto.runtime.source_digest import SCRIPTS, closure
from speech_pareto.study.cells import ratio_name
from speech_pareto.tasks.recogniser import EndToEnd, open_session
from speech_pareto.tasks.task import load_task_model

log = logging.getLogger(__name__)

TOLERANCE = 1e-4  # largest difference of log-probabilities in transformers from those here
BLANK, WORD, UNKNOWN = "<pad>", "|", "<unk>"  # as transformers' tokenizers for CTC have them
VERSIONS = ("executorch", "onnx-asr", "onnxruntime", "sherpa-onnx")
CODE = "speech_pareto/models/modeling_student.py"


class Student:
    """A fine-tuned student with a CTC head, and what it makes of real recordings (1, samples)."""

    def __init__(self, files: Mapping[str, str | Path], settings: dict, corpora: list) -> None:
        folder = files["model"]
        self.files, self.corpora = files, corpora
        self.scratch = tempfile.TemporaryDirectory()
        self.model, self.task = load_task_model(settings, load(folder), folder)
        self.whole = EndToEnd(self.model).eval()
        self.alone = SamplesAlone(self.whole).eval()
        self.waves = [waves for waves, _ in recordings(settings, self.task, corpora)[:-1]]
        self.scores = [self.run(waves) for waves in self.waves]
        self.texts = [self.read(scores) for scores in self.scores]

    def run(self, waves: np.ndarray) -> np.ndarray:
        """Return log-probabilities (frames, outputs) of a recording (1, samples)."""
        return reference(self.whole, waves, np.array([waves.shape[1]]))[0]

    def read(self, scores: np.ndarray) -> str:
        """Return the text of log-probabilities (frames, outputs)."""
        return self.task.decode(torch.from_numpy(scores)[None], torch.tensor([len(scores)]))[0]

    @cached_property
    def exported(self) -> tuple[Path, Path]:
        """Two ONNX files, samples in and log-probabilities out, the second in int8. Spoils it."""
        fitting(self.model)
        unparametrize(self.model)
        file, small = (Path(self.scratch.name) / name for name in ("model.onnx", "int8.onnx"))
        example = {"input_values": torch.zeros(2, SAMPLE_RATE + 123)}
        write_onnx(self.alone, file, example, {}, "logits")
        try:
            quantise(file, small, DYNAMIC)
        except ValueError as error:
            raise NotExported("unsupported", f"no file in 8 bits: {error}") from None
        return file, small

    @cached_property
    def telephone(self) -> Telephone:
        """The student as a stream at 8 kHz. Spoils it."""
        return Telephone(self, Path(self.scratch.name) / "telephone.onnx")

    def card(self, commands: str) -> str:
        """Return its model card, with the commands that run it."""
        return model_card.write(self.files, self.task.card(), self.corpora, commands)

    def write_tokens(self, folder: Path) -> None:
        """Write tokens.txt, the symbols as sherpa-onnx reads them."""
        # Where a symbol begins with ▁, sherpa writes a blank: between phones, as here.
        start = "▁" if self.task.unit == "phones" else ""
        symbols = ["<blk>", *(start + symbol for symbol in self.task.symbols)]
        lines = "".join(f"{symbol} {index}\n" for index, symbol in enumerate(symbols))
        (folder / "tokens.txt").write_text(lines, encoding="utf-8")

    def others(self, texts: Iterable[str]) -> int:
        """Return how many recordings have another text than here, word for word."""
        pairs = zip(texts, self.texts, strict=True)
        return sum(text.split() != own.split() for text, own in pairs)


class SamplesAlone(nn.Module):
    """A recogniser without lengths: all `input_values` (batch, samples) are real."""

    def __init__(self, whole: EndToEnd) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, input_values: Tensor) -> Tensor:
        """Return log-probabilities (batch, frames, outputs)."""
        batch, samples = input_values.shape
        lengths = torch.full((batch,), samples, dtype=torch.int64)
        return self.whole(input_values, lengths)[0]


def main(
    students: Mapping[str, Mapping[str, str]],
    tasks: Mapping[str, dict],
    output: str | Path,
    table: str | Path | None = None,
    digests: dict | None = None,
) -> None:
    """Write a folder per student and runtime below `output`, and what came of it as report.json.

    `students` maps their names, `teacher/recipe/ratio/seed/task`, to their `model`, the fine-tuned
    folder, and their files `metrics`, `hypotheses` and `profile`. Of each task there are `settings`
    and folders of `corpora`. With the `table` of a study only the students go that `recommend`
    names first for their task, those of their first seed.
    """
    names = recommended(table, students) if table else list(students)
    with whole_folder(output) as part:
        for name in names:
            task = tasks[name.rpartition("/")[2]]
            runtimes = deploy(students[name], task["settings"], task["corpora"], part / name)
            seed = int(name.split("/")[3])
            about = meta(seed, torch.get_num_threads(), digests)
            about["versions"] |= {program: version_of(program) for program in VERSIONS}
            report = {"student": name, "runtimes": runtimes, "meta": about}
            result.write_json(part / name / "report.json", report)


def version_of(package: str) -> str | None:
    """Return the version of a package, None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def recommended(table: str | Path, names: Iterable[str]) -> list[str]:
    """Return those of `names` that `recommend` puts first, without any limit; one of each task."""
    study, found = points.read(table), []
    for task in study["tasks"]:
        for point in budget.choose(study, [], task)[:1]:
            cell = [point["teacher"], point["recipe"], ratio_name(point["ratio"]), task]
            seeds = [name for name in names if [*name.split("/")[:3], name.split("/")[4]] == cell]
            found += seeds[:1]
    return found


def deploy(files: Mapping[str, str | Path], settings: dict, corpora: list, folder: Path) -> dict:
    """Write a student below `folder`, once per runtime; return what came of each, by its name.

    `unsupported` is what a runtime cannot run, `different` what reads recordings otherwise there.
    """
    found, status = {}, result.read_status(files["model"])
    student = None if status else Student(files, settings, corpora)
    # Those after the first spoil the student.
    streams = student is not None and lookahead.latency(describe(student.model.backbone))
    for name, write in (PROGRAMS | (STREAMS if streams else {})).items():
        try:
            if status:
                raise NotExported(status["status"], status["reason"])
            with whole_folder(folder / name) as part:
                found[name] = {"status": "ok", "recordings": len(student.waves)}
                found[name] |= write(student, part)
        except NotExported as error:
            log.warning("%s: %s: %s", folder / name, error.status, error)
            found[name] = {"status": error.status, "reason": str(error)}
    return found


def for_sherpa(student: Student, folder: Path) -> dict:
    """Write a folder for sherpa-onnx (its omnilingual CTC models). Spoils the student."""
    fitting(student.model)
    # As sherpa standardises recordings.
    given = [(waves - waves.mean()) / np.sqrt(waves.var() + 1e-5) for waves in student.waves]
    heard = student.others(student.read(student.run(waves)) for waves in given)
    if heard:
        raise NotExported(
            "unsupported",
            "sherpa-onnx standardises recordings (mean 0, variance 1), and this student reads "
            f"{heard} of {len(given)} otherwise then; one that is fine-tuned with `do_normalize: "
            "true` (in `student:` of its task) does not",
        )
    file, small = folder / "model.onnx", folder / "model.int8.onnx"
    for source, copy in zip(student.exported, (file, small), strict=True):
        shutil.copy(source, copy)
    student.write_tokens(folder)
    commands = programs.SHERPA.format(sherpa_onnx=metadata.version("sherpa-onnx"))
    (folder / "README.md").write_text(student.card(commands), encoding="utf-8")
    if others := student.others(by_sherpa(file, student.waves)):
        raise NotExported("different", f"sherpa-onnx reads {others} recordings otherwise")
    return {"int8_reads_otherwise": student.others(by_sherpa(small, student.waves))}


def by_sherpa(file: Path, recordings: Iterable[np.ndarray]) -> list[str]:
    """Return sherpa's text of recordings (1, samples); tokens.txt lies beside the model."""
    tokens = str(file.with_name("tokens.txt"))
    recogniser = sherpa_onnx.OfflineRecognizer.from_omnilingual_asr_ctc(str(file), tokens)
    texts = []
    for waves in recordings:
        stream = recogniser.create_stream()
        stream.accept_waveform(SAMPLE_RATE, waves[0])
        recogniser.decode_stream(stream)
        texts.append(stream.result.text)
    return texts


def for_transformers(student: Student, folder: Path) -> dict:
    """Write a folder for `AutoModelForCTC` and `pipeline`; with code, where transformers has none.

    That is the project's own, so far as a student needs it.
    """
    backbone, head = student.model.backbone, student.model.head
    if own := number_format(backbone):
        raise NotExported("unsupported", f"transformers does not read {own} as it is stored here")
    if student.model.protocol == "probe":
        reason = "a probe reads all layers, the CTC models of transformers read the last one"
        raise NotExported("unsupported", reason)
    config, kind = describe(backbone), type(backbone).__name__.removesuffix("Model")
    config |= {"architectures": [f"{kind}ForCTC"], "dtype": "float32"}
    config |= {"vocab_size": student.task.outputs, "pad_token_id": 0}
    plain = set(architecture.section(config)) <= {"zeros"}
    if plain:
        config.pop("compression", None)
    else:
        config["auto_map"] = {"AutoModelForCTC": f"{Path(CODE).stem}.{kind}Student"}
        copy_code(folder)
    prefix = backbone.base_model_prefix
    stem = dict(backbone.feature_extractor.named_buffers(prefix="feature_extractor"))
    tensors = {f"{prefix}.{k}": v for k, v in (backbone.state_dict() | stem).items()}
    tensors |= {"lm_head.weight": head.weight, "lm_head.bias": head.bias}
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    result.write_json(folder / CONFIG, config)
    named = {"processor_class": "Wav2Vec2Processor"}
    result.write_json(folder / PREPROCESSOR, backbone.preprocessor | named)
    write_tokenizer(student.task, folder)
    versions = {name: metadata.version(name) for name in ("torch", "transformers")}
    versions["torch"] = versions["torch"].partition("+")[0]
    more = ("", "") if plain else (programs.TRUST, ", trust_remote_code=True")
    text = programs.TRANSFORMERS.format(**versions, trust=more[0], argument=more[1])
    (folder / "README.md").write_text(student.card(text), encoding="utf-8")
    if plain:
        model = transformers.AutoModelForCTC.from_pretrained(folder)
    else:
        model = getattr(modeling_student, f"{kind}Student").from_pretrained(folder)
    texts, scores = by_transformers(model.eval(), folder, student.waves)
    far, others = distance(scores, student.scores), student.others(texts)
    if others or not far <= TOLERANCE:
        reason = f"transformers' log-probabilities are {far:.3g} from those here"
        raise NotExported("different", f"{reason}, {others} recordings read otherwise")
    return {"largest_difference": far}


def for_transformers_js(student: Student, folder: Path) -> dict:
    """Write a folder for transformers.js, to which every student is a wav2vec 2.0. Spoils it."""
    (folder / "onnx").mkdir()
    copies = folder / "onnx" / "model.onnx", folder / "onnx" / "model_quantized.onnx"
    for source, copy in zip(student.exported, copies, strict=True):
        shutil.copy(source, copy)
    kind = {"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForCTC"]}
    result.write_json(folder / CONFIG, kind | {"vocab_size": student.task.outputs})
    # The file itself preprocesses recordings.
    more = {"do_normalize": False, "processor_class": "Wav2Vec2Processor"}
    result.write_json(folder / PREPROCESSOR, FEATURES | more)
    named = {"tokenizer_class": "Wav2Vec2CTCTokenizer"}
    result.write_json(folder / "tokenizer_config.json", named)
    start = WORD if student.task.unit == "phones" else ""  # a blank between phones
    symbols = [BLANK, *(start + (WORD if x == " " else x) for x in student.task.symbols)]
    words = {"word_delimiter_token": WORD, "cleanup": True}
    model = {"type": "WordLevel", "vocab": {x: i for i, x in enumerate(symbols)}}
    tokenizer = {"version": "1.0", "added_tokens": [], "model": model | {"unk_token": BLANK}}
    tokenizer |= {"decoder": {"type": "CTC", "pad_token": BLANK, **words}}
    for step in ("normalizer", "pre_tokenizer", "post_processor"):
        tokenizer[step] = None
    result.write_json(folder / "tokenizer.json", tokenizer)
    (folder / "README.md").write_text(student.card(programs.TRANSFORMERS_JS), encoding="utf-8")
    heard = [by_onnxruntime(file, student) for file in copies]
    if others := student.others(heard[0]):
        raise NotExported("different", f"onnxruntime reads {others} recordings otherwise")
    return {"int8_reads_otherwise": student.others(heard[1])}


def by_onnxruntime(file: Path, student: Student) -> list[str]:
    """Return the texts of a student's recordings by its ONNX file, which transformers.js runs."""
    session = open_session(file)
    runs = (session.run(None, {"input_values": waves})[0][0] for waves in student.waves)
    return [student.read(scores) for scores in runs]


def copy_code(folder: Path) -> None:
    """Write the code that rebuilds a student: a file of this library, and all that it imports."""
    for name in closure([CODE]):
        text = (SCRIPTS / name).read_text(encoding="utf-8")
        own = r"from speech_pareto\.models(?:\.layers)?(\.\w+)? import"
        text = re.sub(own, lambda found: f"from {found[1] or '.'} import", text)
        (folder / Path(name).name).write_text(text, encoding="utf-8")


def write_tokenizer(task, folder: Path) -> None:
    """Write the files that turn outputs into text; the blank of CTC is the symbol of padding."""
    phones = task.unit == "phones"
    symbols = [WORD if symbol == " " else symbol for symbol in task.symbols]
    vocabulary = {symbol: index for index, symbol in enumerate([BLANK, *symbols])}
    result.write_json(folder / "vocab.json", vocabulary)
    special = {"pad_token": BLANK, "unk_token": UNKNOWN}
    settings = {**special, "clean_up_tokenization_spaces": False}
    settings |= {"do_phonemize": False} if phones else {"word_delimiter_token": WORD}
    kind = "Wav2Vec2PhonemeCTCTokenizer" if phones else "Wav2Vec2CTCTokenizer"
    settings |= {"tokenizer_class": kind, "processor_class": "Wav2Vec2Processor"}
    result.write_json(folder / "tokenizer_config.json", settings)
    result.write_json(folder / "special_tokens_map.json", special)


@torch.inference_mode()
def by_transformers(
    model: nn.Module, folder: Path, recordings: Iterable[np.ndarray]
) -> tuple[list[str], list[np.ndarray]]:
    """Return texts and log-probabilities (frames, outputs) of recordings (1, samples)."""
    processor = transformers.AutoProcessor.from_pretrained(folder)
    texts, scores = [], []
    for waves in recordings:
        inputs = processor(waves[0], sampling_rate=SAMPLE_RATE, return_tensors="pt")
        logits = model(**inputs).logits[0]  # (frames, outputs)
        texts.append(processor.decode(logits.argmax(-1)))
        scores.append(logits.log_softmax(-1).numpy())
    return texts, scores


PROGRAMS = {
    "transformers": for_transformers,
    "sherpa-onnx": for_sherpa,
    "transformers.js": for_transformers_js,
    "executorch": for_executorch,
}
STREAMS = {  # those for students that hear chunks
    "onnxruntime-stream": for_stream,
    "executorch-stream": for_executorch_stream,
    "sherpa-onnx-stream": for_sherpa_stream,  # from here on chunks are sherpa's
    "onnx-asr": for_onnx_asr,
}


if "snakemake" in globals():
    from speech_pareto.runtime.log import logged

    with logged(snakemake.log[0]):
        torch.set_num_threads(snakemake.threads)
        main(
            students=snakemake.params.job["students"],
            tasks=snakemake.params.job["tasks"],
            output=snakemake.output[0],
            table=snakemake.input.tables[0] if snakemake.input.tables else None,
            digests=snakemake.params.job["code"],
        )
