"""Wiki markup to plain text: every expected value is written by hand from MediaWiki's formatting rules."""

import pytest

from layerwise.data.wiki_markup import plain_text


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        # emphasis, links
        ("'''Rome''' is ''the'' '''''city'''''.", "Rome is the city."),
        ("It's a dog's life", "It's a dog's life"),
        ("[[a]] and [[b|c]], [[d]]s, [[e#part|f]]", "a and c, ds, f"),
        ("[[:Category:Birds]]; [[:Category:Birds|birds]]", "Category:Birds; birds"),
        ("[[Category:Birds]][[de:Vogel]][[Category: Two words|key]]x", "x"),
        ("[[2001: A Space Odyssey (film)|2001]] [[Mission: Impossible]]", "2001 Mission: Impossible"),
        ("[[File:a.jpg|thumb|left|A [[bird]] in {{flagicon|UK}} [[York|town]].]]x", "x"),
        ("[[Image:a.jpg]]x", "x"),
        ("[http://a.org a page], [http://a.org] [//b.org two words]", "a page, two words"),
        ("[sic] stays", "[sic] stays"),
        # templates
        ("a{{b}}c", "ac"),
        ("{{Infobox\n|a={{b|c={{d}}}}\n|e=[[f|g]]\n}}\ntext", "text"),
        ("{{convert|5|km|mi}} by {{cvt|3|m}}, {{lang|fr|mot}}, {{lang-de|Wort}}", "5 km by 3 m, mot, Wort"),
        ("a {{b", "a b"),
        ("a }} b", "a b"),
        ("{{a|[[b}} c", "c"),
        # tables
        ("x\n{| class=a\n! b\n|-\n| c || [[d|e]]\n|}\ny", "x\n\ny"),
        ("x\n{|\n| a\n{|\n| b\n|}\n| c\n|}\ny", "x\n\ny"),
        ("x\n{| class=a\n| never closed", "x"),
        ("{{a\n|b=c\n|}}d", "d"),
        # elements
        ("a<ref>b {{c}} [[d]]</ref>e<ref name=f/>g<ref name='h' />i", "aegi"),
        ("a<ref>one</ref> b <ref>two</ref> c", "a b c"),
        ("a<!-- b {{ <ref> -->c", "ac"),
        ("a <!-- never closed", "a"),
        ("x<math>\\frac{{a}}{b}</math>y<gallery>\nA.jpg|[[b]]\n</gallery>z", "xyz"),
        ("H<sub>2</sub>O<br/>x", "H2O\nx"),
        ("<nowiki>[[a]] ''b''</nowiki> c", "[[a]] ''b'' c"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("a&nbsp;b &amp; c &lt;d&gt; &eacute;", "a b & c <d> é"),
        # lines
        ("* a\n** b\n# c\n: d\n; e", "a\nb\nc\nd\ne"),
        ("a\n----\nb", "a\nb"),
        ("__NOTOC__\na\n\n\n\nb", "a\n\nb"),
        # what removed parts leave
        ("Rome ({{IPA|x}}) is", "Rome is"),
        ("Rome ({{IPA|x}}, Latin) is {{b}}.", "Rome (Latin) is."),
        ("", ""),
    ],
)
def test_markup_by_hand(markup: str, text: str) -> None:
    assert plain_text(markup) == text


def test_headings_stay_where_something_stands_below_them() -> None:
    markup = "a\n== B ==\n=== C ===\nc\n=== D ===\n{{e}}\n== F ==\n* [[g]]\n== H ==\n{{reflist}}\n\n[[Category:I]]"
    assert plain_text(markup) == "a\n\nB\n\nC\n\nc\n\nF\n\ng"


def test_deep_nesting_takes_linear_time() -> None:
    assert plain_text("{{" * 20_000 + "a" + "}}" * 20_000 + "b") == "b"
