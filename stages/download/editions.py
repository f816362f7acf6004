"""Where the editions of the Amazon reviews are published.

Taken from the pages named at each edition and from the scripts of projects that fetch from them, in November 2026. The
addresses moved before: 2014 from jmcauley.ucsd.edu, 2018 from deepyeti.ucsd.edu, 2023 from datarepo.eng.ucsd.edu. If
they move again, `mmprep download --base-url` takes the new place, or a mirror's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import NamedTuple

from mmprep.pipeline.errors import ParamsError
from mmprep.pipeline.params import suggestion


class Extent(StrEnum):
    """How much of a category's interactions."""

    SMALL = "small"  # the 5-core
    FULL = "full"
    RATINGS = "ratings"  # all, without reviews
    LAST_OUT = "last-out"  # the 5-core, split: of each user the last item to test, the one before to val
    TIMESTAMP = "timestamp"  # the 5-core, split by time


class RawFile(NamedTuple):
    """One published file of a category.

    Attributes:
        address: below the edition's base URL, with `{category}`.
        name: under which it is kept, with `{category}`; None for the address's last part.
    """

    address: str
    name: str | None = None

    def local_name(self, category: str) -> str:
        """The file's name in the raw folder."""
        return (self.name or PurePosixPath(self.address).name).format(category=category)


@dataclass(frozen=True)
class Edition:
    """One edition.

    Attributes:
        page: where it is described and linked.
        base_url: below which all its files lie.
        interactions: the files of reviews or ratings, by extent.
        metadata: the file of items.
        categories: as the files' names have them.
    """

    page: str
    base_url: str
    interactions: Mapping[Extent, tuple[RawFile, ...]]
    metadata: RawFile
    categories: tuple[str, ...]


def split_files(kind: str, folder: str) -> tuple[RawFile, ...]:
    """The three files of one of the 2023 edition's splits; the kind is put into the names that are kept."""
    return tuple(
        RawFile(f"benchmark/5core/{folder}/{{category}}.{part}.csv.gz", f"{{category}}.{kind}.{part}.csv.gz")
        for part in ("train", "valid", "test")
    )


COMMON = (
    "Automotive",
    "Books",
    "CDs_and_Vinyl",
    "Cell_Phones_and_Accessories",
    "Clothing_Shoes_and_Jewelry",
    "Digital_Music",
    "Electronics",
    "Grocery_and_Gourmet_Food",
    "Home_and_Kitchen",
    "Kindle_Store",
    "Movies_and_TV",
    "Musical_Instruments",
    "Office_Products",
    "Patio_Lawn_and_Garden",
    "Pet_Supplies",
    "Sports_and_Outdoors",
    "Tools_and_Home_Improvement",
    "Toys_and_Games",
    "Video_Games",
)
SINCE_2018 = (
    "All_Beauty",
    "Appliances",
    "Arts_Crafts_and_Sewing",
    "Gift_Cards",
    "Industrial_and_Scientific",
    "Magazine_Subscriptions",
    "Software",
)

EDITIONS: Mapping[str, Edition] = {
    # Linked first to snap.stanford.edu, which still has a copy: --base-url http://snap.stanford.edu/data/amazon/productGraph
    "2014": Edition(
        page="https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html",
        base_url="https://mcauleylab.ucsd.edu/public_datasets/data/amazon",
        interactions={
            Extent.SMALL: (RawFile("categoryFiles/reviews_{category}_5.json.gz"),),
            Extent.FULL: (RawFile("categoryFiles/reviews_{category}.json.gz"),),
            Extent.RATINGS: (RawFile("categoryFiles/ratings_{category}.csv"),),
        },
        metadata=RawFile("categoryFiles/meta_{category}.json.gz"),
        categories=(
            *COMMON,
            "Amazon_Instant_Video",
            "Apps_for_Android",
            "Baby",
            "Beauty",
            "Health_and_Personal_Care",
        ),
    ),
    # Also described at nijianmo.github.io/amazon, which asks to fill in a form before the larger files are fetched. The
    # ratings alone are left out: in them the item comes before the user, unlike in 2014's, and nothing says so.
    "2018": Edition(
        page="https://cseweb.ucsd.edu/~jmcauley/datasets/amazon_v2/",
        base_url="https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2",
        interactions={
            Extent.SMALL: (RawFile("categoryFilesSmall/{category}_5.json.gz"),),
            Extent.FULL: (RawFile("categoryFiles/{category}.json.gz"),),
        },
        metadata=RawFile("metaFiles2/meta_{category}.json.gz"),
        categories=(*COMMON, *SINCE_2018, "AMAZON_FASHION", "Luxury_Beauty", "Prime_Pantry"),
    ),
    # The 5-core is published as ratings alone, of 28 categories, under the same names as all ratings and in two splits
    # under the same names; the names kept here differ.
    "2023": Edition(
        page="https://amazon-reviews-2023.github.io/",
        base_url="https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023",
        interactions={
            Extent.SMALL: (RawFile("benchmark/5core/rating_only/{category}.csv.gz", "{category}.5core.csv.gz"),),
            Extent.FULL: (RawFile("raw/review_categories/{category}.jsonl.gz"),),
            Extent.RATINGS: (RawFile("benchmark/0core/rating_only/{category}.csv.gz", "{category}.0core.csv.gz"),),
            Extent.LAST_OUT: split_files("last_out", "last_out_w_his"),
            Extent.TIMESTAMP: split_files("timestamp", "timestamp_w_his"),
        },
        metadata=RawFile("raw/meta_categories/meta_{category}.jsonl.gz"),
        categories=(
            *COMMON,
            *SINCE_2018,
            "Amazon_Fashion",
            "Baby_Products",
            "Beauty_and_Personal_Care",
            "Handmade_Products",
            "Health_and_Household",
            "Health_and_Personal_Care",
            "Subscription_Boxes",
            "Unknown",
        ),
    ),
}


def find_edition(name: str) -> Edition:
    """The edition of a year.

    Raises:
        ParamsError: there is none.
    """
    if name not in EDITIONS:
        raise ParamsError(f"--edition: found {name!r}, expected a year{suggestion(name, list(EDITIONS))}")
    return EDITIONS[name]


def check_category(category: str, edition: str) -> None:
    """Check that an edition has a category.

    Raises:
        ParamsError: it has none of this name.
    """
    known = find_edition(edition).categories
    if category not in known:
        raise ParamsError(
            f"--category: found {category!r}, expected one of the {edition} edition{suggestion(category, list(known))}"
        )
