"""URLs of the editions of the Amazon reviews.

Collected in November 2026 from the page named at each edition and from other projects' download scripts. The addresses
have moved before: 2014 from jmcauley.ucsd.edu, 2018 from deepyeti.ucsd.edu, 2023 from datarepo.eng.ucsd.edu. If they
move again, give the new address, or a mirror's, with `mmprep download --base-url`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import NamedTuple

from mmprep.pipeline.errors import ParamsError
from mmprep.pipeline.params import suggestion


class Extent(StrEnum):
    """Subset of a category's interactions."""

    SMALL = "small"  # the 5-core
    FULL = "full"
    RATINGS = "ratings"  # all, without reviews
    LAST_OUT = "last-out"  # the 5-core, split: each user's last item is test, the one before it val
    TIMESTAMP = "timestamp"  # the 5-core, split by time


class RawFile(NamedTuple):
    """One published file of a category.

    Attributes:
        address: path below the edition's base URL, with placeholder `{category}`.
        name: local file name, with placeholder `{category}`; None for the address's last part.
    """

    address: str
    name: str | None = None

    def local_name(self, category: str) -> str:
        """The file's name in the raw folder."""
        return (self.name or PurePosixPath(self.address).name).format(category=category)


@dataclass(frozen=True)
class Edition:
    """One edition of the Amazon reviews.

    Attributes:
        page: web page that describes and links it.
        base_url: common prefix of the URLs of its files.
        interactions: the files of reviews or ratings, by extent.
        metadata: the file of items.
        image_features: the file of vectors of photos, where the edition has one.
        categories: categories, spelled as in the file names.
    """

    page: str
    base_url: str
    interactions: Mapping[Extent, tuple[RawFile, ...]]
    metadata: RawFile
    categories: tuple[str, ...]
    image_features: RawFile | None = None


def split_files(kind: str, folder: str) -> tuple[RawFile, ...]:
    """The three files of one of the 2023 edition's splits; their local names include `kind`."""
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
    # Formerly at snap.stanford.edu, which still has a copy: --base-url http://snap.stanford.edu/data/amazon/productGraph
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
        image_features=RawFile("image_features/categoryFiles/image_features_{category}.b"),
    ),
    # Also described at nijianmo.github.io/amazon, which requires a form before the larger files are fetched. Files
    # of ratings alone are left out: in them the item comes before the user, unlike in 2014's, and no header says so.
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
    # The 5-core is published only as ratings, for 28 categories. Its files have the same names as those of all ratings
    # and of the two splits, so local names differ.
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
        ParamsError: there is no such edition.
    """
    if name not in EDITIONS:
        raise ParamsError(f"--edition: found {name!r}, expected a year{suggestion(name, list(EDITIONS))}")
    return EDITIONS[name]


def check_category(category: str, edition: str) -> None:
    """Check that an edition has a category.

    Raises:
        ParamsError: it does not.
    """
    known = find_edition(edition).categories
    if category not in known:
        raise ParamsError(
            f"--category: found {category!r}, expected one of the {edition} edition{suggestion(category, list(known))}"
        )
