"""Study: one TOML file, one frozen value. Equal files give equal studies, and everything that changes a result is in it."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tag,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from isoflop import _registry, units
from isoflop.arch import Kind
from isoflop.errors import StudyError, UnitError, UnknownNameError
from isoflop.runs import Precision
from isoflop.study import _toml

EVAL_TOKENS = 131_072  # assumption: enough that the loss of two models differs by more than the choice of text moves it

MOST = 1000  # sizes, run lengths or seeds. Assumption: a sweep has tens; without a limit a slip in one key is a design that never ends
WIDEST = 1 << 20  # assumption: eight times the widest model that anybody has described
LONGEST = 10**8  # tokens a sequence, as `isoflop arch` has it


def _quantity(value: object) -> float:
    try:
        return units.read_flops(value)  # type: ignore[arg-type]  # it refuses what is neither text nor a number
    except UnitError as error:
        raise ValueError(str(error)) from None


SCHEMA_TITLE = "isoflop study"
MENUS = {"arch": ("isoflop.arch", "architecture"), "design": ("isoflop.design", "design"), "recipe": ("isoflop.recipes", "recipe")}  # key: package, noun


def _menu(package: str) -> Callable[[dict[str, Any]], None]:
    """Return what lists a menu's entries in the JSON schema, so that an editor offers them."""

    def offer(schema: dict[str, Any]) -> None:
        schema["enum"] = list(_registry.names(package))

    return offer


_QUANTITY_SCHEMA = {
    "anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": units.PATTERN}],
    "description": 'a number such as 1e11, or text such as "70M" or "5.76e23"',
}
Quantity = Annotated[float, BeforeValidator(_quantity), WithJsonSchema(_QUANTITY_SCHEMA)]


def _recipe_kind(value: object) -> str:
    return "table" if isinstance(value, dict | Tuned) else "name"


class Proof(BaseModel):
    """The head-to-head at the target budget."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    oversize: PositiveFloat = Field(4.0, description="the baseline's params over the predicted optimum's, at equal FLOPs (Gopher was 4 x Chinchilla)")
    kaplan: bool = Field(default=False, description="also train the size that Kaplan's exponent would have picked")


class Tuned(BaseModel):
    """A recipe with the learning rate that `isoflop tune` measured on the study's text: base's rate x scale x (d_model / width)**power."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    base: str = Field(examples=["small"], description="the named recipe")
    scale: PositiveFloat = Field(examples=[1.5], description="the best rate over that of the base, at the width")
    width: PositiveFloat = Field(examples=[48.0], description="d_model in the middle of the sizes that were tried")
    power: float = Field(0.0, description="of d_model, in how the best rate over that of the base changes with the size")

    def __str__(self) -> str:
        return f"{self.base}, tuned"

    @property
    def toml(self) -> str:
        """As a study file has it."""
        return _toml.value(self)

    def correction(self, d_model: float) -> float:
        """The best rate over that of the base, at a width."""
        return self.scale * float((d_model / self.width) ** self.power)


class Study(BaseModel):
    """What to find out, on which text, with which models, at which budgets."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", description="folder the study is kept in, under studies/", examples=["novels"])
    corpus: tuple[str, ...] = Field(
        ("python",),
        min_length=1,
        examples=[("books/*.txt",)],
        description='"python" (the standard library\'s source), files and globs, or "hf:NAME" for a dataset on the Hugging Face hub',
    )
    text_field: str = Field("", examples=["body"], description='field or column of the text in JSONL and Parquet; "" is "text", or the only other usual name')
    separator: str = Field("", examples=["<|endoftext|>"], description='text between documents, such as "<|endoftext|>"; "" if nothing is')
    min_characters: NonNegativeInt = Field(1, description="documents of fewer characters that are not blank are excluded")
    encoding: str = Field("utf-8", examples=["latin-1"], description="of text files and JSONL, as Python names it; UTF-16 with a byte order mark needs no name")
    validation: float = Field(0.05, gt=0, lt=0.5, description="share of the text held out, by whole documents")
    tokenizer: str = Field("bytes", pattern=r"^(bytes|bpe-[1-9][0-9]*)$", examples=["bpe-4096"], description='"bytes", or "bpe-VOCAB" trained on the corpus')
    arch: str = Field("llama", json_schema_extra=_menu("isoflop.arch"), description='family of models: "gopher" (the paper\'s) or "llama"')
    tied: bool = Field(default=True, description="the output head is the embedding; llama can have one of its own")
    kv_heads: PositiveInt | Literal["all"] = Field("all", description="at most so many heads of keys and values, which the others share; llama only")
    context: PositiveInt = Field(128, le=LONGEST, description="tokens a sequence")
    design: str = Field(
        "isoflop",
        json_schema_extra=_menu("isoflop.design"),
        description='"isoflop" (Approach 2), "cooldown" (the same from one trunk a size) or "horizons" (sizes x run lengths, Approach 1)',
    )
    cooldown: float = Field(0.2, gt=0, le=1, description="share of a run over which its learning rate goes down, for the cooldown design")
    overlong: bool = Field(default=False, description="also train the grid on one cosine for all lengths, that of the longest run, as Kaplan et al. 2020 had")
    budgets: tuple[Quantity, ...] = Field(
        min_length=1, examples=[("1e11", "2e11", "4e11", "8e11", "1.6e12")], description="training FLOPs of each IsoFLOP profile"
    )
    sizes: int | tuple[PositiveInt, ...] = Field(7, description="how many sizes a budget, around the expected optimum; or the widths (d_model) themselves")
    spread: Annotated[float, Field(gt=1)] = Field(16.0, description="largest over smallest params of a budget, when sizes is a number")
    horizons: int = Field(4, ge=2, le=MOST, description="run lengths of each size over a 16x range, for the horizons design")
    recipe: Annotated[Annotated[str, Tag("name")] | Annotated[Tuned, Tag("table")], Discriminator(_recipe_kind)] = Field(
        "small", description="named rule for learning rate, batch and warm-up (docs/tune.md); or the table that `isoflop tune` writes"
    )
    lr_scale: PositiveFloat = Field(1.0, description="multiplies the recipe's learning rate")
    batch_scale: PositiveFloat = Field(1.0, description="multiplies the recipe's batch")
    optimizer: Literal["adamw", "muon"] = Field("adamw", description='"adamw", or "muon" for the matrices of the blocks')
    precision: Precision = Field("float32", description='of the matrix products: "float32" or "bf16"')
    z_loss: float = Field(0.0, ge=0, description="weight of the penalty on the logits' size; 1e-4 in PaLM")
    seeds: PositiveInt = Field(3, le=MOST, description="runs, each with its own seed, at one point of the grid: the noise")
    seed: int = Field(0, ge=0, description="of initial weights and of the order of the text")
    eval_tokens: PositiveInt = Field(
        EVAL_TOKENS, description="validation tokens that every run's final loss is measured on; the default means all that the text has, where that is fewer"
    )
    target: Quantity = Field(examples=["4.8e12"], description="training FLOPs of the run to plan and prove")
    proof: Proof = Field(Proof(), description="the head-to-head at the target budget")

    def kind(self, vocab: int) -> Kind:
        """Of its models, with the tokenizer's vocabulary."""
        return Kind(family=self.arch, vocab=vocab, context=self.context, tied=self.tied, kv_heads=None if self.kv_heads == "all" else self.kv_heads)

    def evaluated(self, val_tokens: int) -> int:
        """Return how many validation tokens a run is measured on: `eval_tokens`, or by default all whole sequences where the text has fewer."""
        if self.eval_tokens != EVAL_TOKENS:
            return self.eval_tokens
        return min(EVAL_TOKENS, (val_tokens - 1) // self.context * self.context)

    @field_validator("arch", "design", "recipe")
    @classmethod
    def _on_the_menu(cls, value: object, field: ValidationInfo) -> object:
        package, noun = MENUS[str(field.field_name)]
        try:
            _registry.check(value.base if isinstance(value, Tuned) else str(value), _registry.names(package), noun=noun)
        except UnknownNameError as error:
            raise ValueError(str(error).removesuffix(".")) from None
        return value

    @field_validator("corpus", mode="before")
    @classmethod
    def _one_is_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("budgets")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(value)) != len(value):
            raise ValueError("the same budget is named twice")
        return tuple(sorted(value))

    @model_validator(mode="after")
    def _sizes_enough(self) -> Self:
        if isinstance(self.sizes, tuple):
            if len(set(self.sizes)) != len(self.sizes):
                raise ValueError("the same width is named twice in sizes")
            if any(width % 2 for width in self.sizes):
                raise ValueError("widths must be even, since rotary pairs and sinusoids come in twos")
            if max(self.sizes, default=0) > WIDEST:
                raise ValueError(f"sizes has a width of {units.count(max(self.sizes))}, but isoflop designs widths up to {units.count(WIDEST)}")
        if self.overlong and self.design != "isoflop":
            raise ValueError(f'overlong compares cosines, and the {self.design} design is laid out otherwise; set design = "isoflop"')
        count = self.sizes if isinstance(self.sizes, int) else len(self.sizes)
        if count < 3:
            raise ValueError(f"sizes makes {count} sizes a budget, but a parabola needs at least 3")
        if count > MOST:
            raise ValueError(f"sizes makes {units.count(count)} sizes a budget, but at most {MOST} are allowed; seven are usual")
        return self


def load(path: Path | str) -> Study:
    """Read a study from a TOML file; relative paths of the corpus are taken from the file's folder.

    Raises:
        StudyError: The file is not there or not TOML, a key is unknown (the nearest is named), or a value is invalid.
    """
    path = Path(path)
    study = parse(_toml.read(path), source=units.shown(path))
    return study.model_copy(update={"corpus": tuple(_anchored(entry, path.parent) for entry in study.corpus)})


def parse(values: dict[str, object], *, source: str = "study") -> Study:
    """Return the study of a TOML document's values.

    Raises:
        StudyError: A key is unknown or missing, or a value is invalid.
    """
    from isoflop.study import _refusals

    try:
        _toml.check_integers(values, source)
        return Study.model_validate(values)
    except ValidationError as error:
        raise StudyError(_refusals.sentences(source, values, error, {"": Study, "proof": Proof, "recipe": Tuned})) from None


def schema() -> dict[str, Any]:
    """Return the JSON schema of study files, for editors; it is made from the keys that `parse` reads."""
    made = Study.model_json_schema()
    made["properties"]["corpus"] = _or_alone(made["properties"]["corpus"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": SCHEMA_TITLE}


def _or_alone(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a list, or of an entry that stands for a list of one."""
    shape = {key: schema.pop(key) for key in ("type", "items", "minItems") if key in schema}
    return {"anyOf": [shape["items"], shape], **schema}


def show(study: Study) -> str:
    """Return the study as TOML with every default visible and every key explained; `load` reads it back."""
    lines = []
    for key, field in Study.model_fields.items():
        value = getattr(study, key)
        if key == "proof":
            continue
        lines += [f"# {field.description}", f"{key} = {_toml.value(value)}"]
    lines += ["", "[proof]"]
    for key, field in Proof.model_fields.items():
        lines += [f"# {field.description}", f"{key} = {_toml.value(getattr(study.proof, key))}"]
    return "\n".join(lines) + "\n"


def example() -> Study:
    """Return a study with the defaults of every key, and with examples for the keys that have none."""
    return parse({key: field.examples[0] for key, field in Study.model_fields.items() if field.is_required() and field.examples})


def _anchored(entry: str, folder: Path) -> str:
    if entry.startswith("~/"):
        return str(Path(entry).expanduser())
    if entry == "python" or entry.startswith("hf:") or Path(entry).is_absolute():
        return entry
    path = str((folder / entry).absolute())
    try:
        path.encode()
    except UnicodeEncodeError:
        raise StudyError(f"the folder {units.shown(folder)} has a name that is not UTF-8, and a study names its text by its path. Rename the folder.") from None
    return path
