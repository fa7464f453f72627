"""`hyperfit index`: build, inspect and use a citation index."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ..checkpoint_files import INDEX_FILE
from ..errors import HyperfitError

app = typer.Typer(
    help="Build, inspect and use a citation index: what a hyperfitted model must not recite.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
Tokenizer = Annotated[
    str | None, typer.Option(help="Folder or Hub id of the model; by default the folder that the first file is in.")
]


@app.command()
def build(
    source: Annotated[str, typer.Argument(help="Training blocks, a .txt or .jsonl file, or a Hub dataset id.")],
    tokenizer: Tokenizer = None,
    output: Annotated[Path, typer.Option(help="Where to write the index.")] = Path(INDEX_FILE),
    ngram: Annotated[int, typer.Option(help="Tokens that must match before a continuation is blocked.")] = 5,
) -> None:
    """Index the texts that a model was hyperfitted on.

    Example: `hyperfit index build runs/book/training_blocks.jsonl --output runs/book/citation_index.safetensors`
    """
    from ..checkpoints import load_tokenizer
    from ..citation import CitationIndex
    from ..citation.corpus import read_sequences

    loaded = load_tokenizer(tokenizer or str(Path(source).parent))
    CitationIndex.build(read_sequences(source, loaded), loaded, ngram).save(output)
    inspect(output)


@app.command()
def inspect(
    index: Annotated[Path, typer.Argument(help="A citation index.")],
) -> None:
    """Print what an index was made of.

    Example: `hyperfit index inspect runs/book/citation_index.safetensors`
    """
    from ..citation import CitationIndex

    header = asdict(CitationIndex.load(index).header)
    print(f"{index}: {index.stat().st_size / 2**20:.1f} MiB")
    for name, value in header.items():
        print(f"  {name.replace('_', ' '):20} {value:,}" if isinstance(value, int) else f"  {name:20} {value}")


@app.command()
def check(
    index: Annotated[Path, typer.Argument(help="A citation index.")],
    text: Annotated[
        typer.FileText | None, typer.Argument(help="A text file, or - for standard input.", encoding="utf-8")
    ] = None,
    tokenizer: Tokenizer = None,
    full: Annotated[bool, typer.Option("--full", help="Compare checksums also of an index above 1 GiB.")] = False,
) -> None:
    """Check that an index is whole; with a text, show where it repeats the indexed one.

    A damaged index is refused in one line. Of a text, segments are shown in which every 5 tokens in a row occur in
    the index. Tokens are those of the text as it is tokenized here; what was generated token by token can differ.

    Example: `hyperfit index check runs/book/citation_index.safetensors --full`
    """
    from ..citation import CitationIndex

    if text is None:
        opened = CitationIndex.load(index, full=full)
        compared = f"checksums not compared ({opened.not_compared})" if opened.not_compared else "checksums agree"
        print(
            f"{index}: {opened.header.tokens:,} tokens, {opened.header.ngrams:,} n-grams; structure whole, {compared}"
        )
    else:
        _show_overlaps(index, text, tokenizer, full)


def _show_overlaps(index: Path, text: typer.FileText, tokenizer: str | None, full: bool) -> None:
    from ..checkpoints import load_tokenizer
    from ..citation import CitationIndex
    from ..tokenizers import plain_ids

    try:
        content = text.read()
    except UnicodeDecodeError as error:
        raise HyperfitError(f"{text.name}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    loaded = load_tokenizer(tokenizer or str(index.parent))
    opened = CitationIndex.load(index, loaded, full)
    ids = plain_ids(loaded, content)
    overlaps = opened.find(ids)
    for start, length, sequence, offset in overlaps:
        copied = loaded.decode(ids[start : start + length])
        print(f"tokens {start}-{start + length - 1} ({length}), sequence {sequence}, token {offset}: {copied!r}")
    longest = max((overlap.length for overlap in overlaps), default=0)
    print(f"{len(ids)} tokens, {len(overlaps)} segments of {opened.ngram} tokens or more, the longest of {longest}")
