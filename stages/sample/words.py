"""Vocabulary of the synthetic shop: names, descriptions and opinions of items."""

from typing import Any

from mmprep.stages.sample.photos import SHAPES

HOME, WEAR = "Home & Kitchen", "Clothing, Shoes & Accessories"
DEPARTMENTS = {kind: WEAR if kind in ("shirt", "bag", "hat", "boot", "umbrella") else HOME for kind in SHAPES}
WORDS: dict[str, tuple[str, ...]] = {
    "mug": ("mug", "cup", "coffee mug"),
    "lamp": ("lamp", "table lamp", "light"),
    "chair": ("chair", "seat", "dining chair"),
    "clock": ("clock", "alarm clock", "timepiece"),
    "vase": ("vase", "flower vase", "urn"),
    "umbrella": ("umbrella", "brolly", "rain umbrella"),
    "shirt": ("shirt", "tee", "cotton top"),
    "bag": ("bag", "handbag", "tote"),
    "hat": ("hat", "sun hat", "brimmed hat"),
    "boot": ("boot", "rain boot", "welly"),
    "red": ("red", "crimson", "scarlet"),
    "orange": ("orange", "tangerine", "amber"),
    "yellow": ("yellow", "lemon", "canary"),
    "green": ("green", "emerald", "leaf green"),
    "teal": ("teal", "turquoise", "sea green"),
    "blue": ("blue", "cobalt", "royal blue"),
    "purple": ("purple", "violet", "plum"),
    "charcoal": ("charcoal", "black", "slate"),
    "plain": ("plain", "solid", "unpatterned"),
    "striped": ("striped", "stripy", "banded"),
    "dotted": ("dotted", "polka-dot", "spotted"),
    "checked": ("checked", "checkered", "chequered"),
    "wavy": ("wavy", "rippled", "wave-print"),
    "starry": ("starry", "star-print", "star-spangled"),
}
# By the brands' typical style.
BRANDS = {
    "plain": ("Quorrand", "Ixolm"),
    "striped": ("Tavelby", "Oskelund"),
    "dotted": ("Brimovar", "Zumbrel"),
    "checked": ("Pellowick", "Harvanta"),
    "wavy": ("Dwennick", "Murvane"),
    "starry": ("Calloftry", "Jessumer"),
}
TITLES = (
    "{Style} {colour} {kind} by {brand}",
    "{brand} {colour} {kind}, {style}",
    "{brand} {style} {kind} in {colour}",
    "{Colour} &amp; {style} {kind} from {brand}",
)
SHOWING = (
    "This {style} {kind} comes in {colour}.",
    "The {colour} tone and the {style} design suit any day.",
    "Our {kind} for those who like things {colour} and {style}.",
    "{Colour} all over, with that {style} look: the {kind} by {brand}.",
)
FILLER = (
    "Wipe clean with a damp cloth.",
    "Makes a thoughtful gift.<br>Packed by hand.",
    "Tested for everyday use &amp; built to last.",
    "Ships in a recycled box.",
    "Comes with a two-year guarantee.",
)
OPINIONS = (
    ("Broke after a week.", "Not what I ordered, sent it back.", "Poor quality, I expected more."),
    ("It is okay for the price.", "Does its job, nothing special.", "Smaller than I thought, but fine."),
    ("Love it!", "Exactly as pictured, very happy.", "My second one &#34;just because&#34;.", "Great gift, well made."),
)
REMARKS = ("The {colour} is as shown.", "Nice {style} {kind}.", "A {kind} is a {kind}.", "Arrived on time.", "")
NAMES = ("Mara", "Theo", "Ines", "Jonah", "Priya", "Lars", "Noor", "Callum", "Yuki", "Dina", "Amazon Customer")
# Empty records: the edition's fields in the edition's order, which a union of dictionaries keeps.
EMPTY_REVIEW: dict[str, Any] = {
    **{"overall": 0.0, "verified": False, "reviewTime": "", "reviewerID": "", "asin": "", "reviewerName": ""},
    **{"reviewText": "", "summary": "", "unixReviewTime": 0},
}
EMPTY_ITEM: dict[str, Any] = {
    **{"category": [], "tech1": "", "description": [], "fit": "", "title": "", "also_buy": [], "tech2": ""},
    **{"brand": "", "feature": [], "rank": [], "also_view": [], "main_cat": "", "similar_item": "", "date": ""},
    **{"price": "", "asin": "", "imageURL": [], "imageURLHighRes": []},
}

README = """\
# Sample data set

A small data set in the format of the Amazon reviews' 2018 edition. `mmprep sample` generated all of it with seed
{seed}: there are no such products, people, brands or photos. Licence: Apache-2.0, as the rest of the repository.

- `Sample.json.gz`: reviews, one JSON object a line, in no order
- `meta_Sample.json.gz`: items
- `images/ASIN.jpg`: product photos, drawn by the program

Users prefer some categories, colours and styles. Texts and photos show these, so features of either help to recommend.

About one row in a hundred is bad on purpose, on top of the good ones:

| what | count |
|---|---|
{table}

`broken_json` lines are cut off; `no_user` and `no_item` rows lack their id; `duplicate` rows repeat a line exactly;
a `repeated_pair` is the same user on the same item later, with another rating. `no_text` items have no title,
description, category or brand, and `no_photo` items no file; `truncated` photos lack their end, `empty` ones hold no
byte, and `html` ones are an error page under a photo's name.
"""
