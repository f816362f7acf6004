"""LightGCN's train.txt and test.txt: a line for each user, with the number of the user and those of the items."""

from mmprep.pipeline.reject_reasons import Reason
from mmprep.pipeline.tables.schemas import SPLITS
from mmprep.stages.ingest.base import FileHead, Format
from mmprep.stages.ingest.given_splits import named_interaction, read_id_tables, split_of
from mmprep.stages.ingest.records import Fault, Parse, Parsed

SUFFIX = ".txt"


def list_parser(head: FileHead) -> Parse:
    """Make the line parser of `user item item ...`; the file's name gives the split."""
    split = split_of(head.path)
    users, items = read_id_tables(head.path)

    def interactions_in(line: bytes) -> Parsed:
        numbers = line.split()
        wrong = next((number for number in numbers if not number.isdigit()), None)
        if wrong is not None:
            return Fault(Reason.BAD_COLUMNS, f"{wrong[:20].decode(errors='replace')!r} is no number")
        user, *bought = (str(int(number)) if len(number) < 20 else "" for number in numbers)
        return [named_interaction(users, items, user, item, (None, None), split) for item in bought]

    return interactions_in


def is_user_lists(head: FileHead) -> bool:
    """Whether a file is train.txt, val.txt or test.txt that begins with whole numbers."""
    return (
        split_of(head.path) in SPLITS
        and SUFFIX in head.path.name
        and bool(head.lines)
        and all(number.isdigit() for number in head.lines[0].split())
    )


LISTS = Format(
    name="LightGCN's train.txt and test.txt",
    kind="reviews",
    matches=is_user_lists,
    parser=list_parser,
)
