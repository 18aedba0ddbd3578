"""Stages for tests of what a pair sees of its members."""

from collections.abc import Sequence

from stages.stage import Reject, Row, Stage, StageConfig


class Text(Stage[StageConfig]):
    """Of a character: its file's name, unless that says otherwise."""

    needs = ("file",)
    makes = ("text", "word")

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        """Give the name twice; the second column is called as one of the source's."""
        return [
            Reject("marked") if "reject" in row["file"] else {"text": row["file"], "word": row["file"]} for row in rows
        ]


class Joined(Stage[StageConfig]):
    """Of a pair: all that it sees."""

    needs = ("key", "array", "word", "text", "character_word", "source_file", "character_domain")
    makes = ("seen",)

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        """Give the columns, the array as its sum."""
        return [{"seen": row | {"array": float(row["array"].sum())}} for row in rows]


class Blind(Joined):
    """Needs what nobody makes."""

    needs = ("array", "character_array")


class Word(Stage[StageConfig]):
    """Makes what the source has made too."""

    needs = ("source_word",)
    makes = ("word",)

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        """Give a word that names the source's."""
        return [{"word": f"the pair's, and not {row['source_word']}"} for row in rows]


class After(Stage[StageConfig]):
    """Sees the pair's word."""

    needs = ("word",)
    makes = ("seen",)

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        """Give all that it sees."""
        return [{"seen": row} for row in rows]
