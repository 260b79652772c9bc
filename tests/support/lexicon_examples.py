"""Lexicons in WN-LMF."""

from __future__ import annotations

from pathlib import Path

HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<!DOCTYPE LexicalResource SYSTEM "http://globalwordnet.github.io/schemas/WN-LMF-1.0.dtd">\n'
)


def lexicon(folder: Path, name: str, words: dict[str, list[str]], index: dict[str, str]) -> str:
    """A file with one lexicon: words and their synsets, synsets and their numbers in the Interlingual Index."""
    entries = [
        f'<LexicalEntry id="e{n}"><Lemma writtenForm="{word}" partOfSpeech="n"/>'
        + "".join(f'<Sense id="s{n}-{m}" synset="{synset}"/>' for m, synset in enumerate(synsets))
        + "</LexicalEntry>"
        for n, (word, synsets) in enumerate(words.items())
    ]
    synsets = [f'<Synset id="{id_}" ili="{ili}" partOfSpeech="{id_[-1]}"/>' for id_, ili in index.items()]
    file = folder / f"{name}.xml"
    file.write_text(
        f'{HEAD}<LexicalResource xmlns:dc="http://purl.org/dc/elements/1.1/"><Lexicon id="{name}" label="{name}" '
        f'language="{name[-2:]}" email="a@b.example" license="cc0" version="1">{"".join(entries + synsets)}</Lexicon>'
        "</LexicalResource>",
        encoding="utf-8",
    )
    return str(file)
