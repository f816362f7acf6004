import pytest

from mmprep.models.encoders.text_templates import PRESETS, RENDERED, check_template, make_text
from mmprep.pipeline.text import PATH_STEP, PATHS

ITEM = {
    "title": "Dog toy",
    "description": "It squeaks. A lot.",
    "categories": PATHS.join([PATH_STEP.join(["Pets", "Dogs, small", "Toys"]), PATH_STEP.join(["Gifts", "Pets"])]),
    "brand": "Acme",
}
EMPTY = dict.fromkeys(ITEM, "")


def test_all_is_title_description_categories_and_brand() -> None:
    assert make_text("all")(ITEM) == "Dog toy It squeaks. A lot. Pets, Dogs, small, Toys; Gifts, Pets Acme"


def test_mmrec_is_the_text_of_its_notebook() -> None:
    # MMRec's feat-encoder joins these four by blanks, of the categories the first path's steps.
    steps = ["Pets", "Dogs, small", "Toys"]
    expected = " ".join([ITEM["title"], ITEM["brand"], " ".join(steps), ITEM["description"]])
    assert make_text("mmrec")(ITEM) == expected == "Dog toy Acme Pets Dogs, small Toys It squeaks. A lot."


@pytest.mark.parametrize("template", list(PRESETS))
def test_fields_that_are_empty_leave_no_double_blanks(template: str) -> None:
    assert make_text(template)(EMPTY | {"title": "Dog toy", "description": "It squeaks."}) == "Dog toy It squeaks."
    assert make_text(template)(EMPTY) == ""


def test_own_template_is_filled() -> None:
    assert make_text("{title}. {brand}")(ITEM) == "Dog toy. Acme"
    assert make_text("{first_category} / {categories}")(ITEM) == (
        "Pets Dogs, small Toys / Pets, Dogs, small, Toys; Gifts, Pets"
    )
    assert make_text("  {title}\n\t{title} ")(ITEM) == "Dog toy Dog toy"


def test_own_template_gives_nothing_where_all_that_it_names_is_empty() -> None:
    assert make_text("Brand: {brand}.")(EMPTY | {"title": "Dog toy"}) == ""
    assert make_text("Brand: {brand}. {title}")(EMPTY | {"title": "Dog toy"}) == "Brand: . Dog toy"


def test_braces_and_names_in_an_items_text_stay_as_they_are() -> None:
    assert make_text("{title} {brand}")(ITEM | {"title": "{brand} {0} {"}) == "{brand} {0} { Acme"


@pytest.mark.parametrize("template", ["all", "mmrec", "{title}", "{title}. {brand}", "{first_category}{description}"])
def test_presets_and_texts_with_known_names_are_accepted(template: str) -> None:
    check_template(template)


@pytest.mark.parametrize("template", ["", "title", "{}", "{titel}", "{title} {price}", "{item.title}", "{title!r}"])
def test_anything_else_is_refused_with_the_names_that_there_are(template: str) -> None:
    with pytest.raises(ValueError, match="all, mmrec, or a text with any of") as caught:
        check_template(template)
    assert all(f"{{{name}}}" in str(caught.value) for name in RENDERED)
