from __future__ import annotations

import contextlib
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.sandbox import SandboxedEnvironment

from lindi_dask.errors import InvalidReferences
from lindi_dask.refs.kerchunk.templates import expand

if TYPE_CHECKING:
    from collections.abc import Callable

TEMPLATES = {
    "u": "http://server.domain/path",
    "f": "{{c}}",
    "g": "a{{ c + 1 }}b{{ d }}",
    "twice": "{{ f(c=u) }}{{ f(c='/' + x) }}",
    "deep": "{{ twice(x='end') }}!",
    "braces": "{ {u} }}",
    "pad": "{{ '%05d' % n }}",
    "empty": "",
}
thorough = settings(max_examples=300, deadline=None, derandomize=True)


def refused(url: str, templates: dict[str, str] = TEMPLATES) -> InvalidReferences:
    with pytest.raises(InvalidReferences) as caught:
        expand(url, templates, key="a/0")
    assert caught.value.key == "a/0"
    assert caught.value.reason in str(caught.value)
    assert caught.value.__context__ is None
    return caught.value


EXPANDED = {
    "http://{{u}}": "http://http://server.domain/path",
    "{{ u }}/x": "http://server.domain/path/x",
    "{{\tu\n}}/x": "http://server.domain/path/x",
    "http://{{f(c='text')}}": "http://text",
    'http://{{ f( c = "te\'xt" ) }}': "http://te'xt",
    "{{ f(c=f(c=7)) }}": "7",
    "{{ g(c=4, d='q') }}": "a5bq",
    "{{ g(d='q', c=-1) }}": "a0bq",
    "{{ deep }}": "http://server.domain/path/end!",
    "{{ braces }}": "{ {u} }}",
    "{{ f(c='{{u}}') }}": "{{u}}",
    "{{ '}}' }}": "}}",
    "{{ empty }}": "",
    "{{ 1 + 2 * 3 }}": "7",
    "{{ (1 + 2) * 3 }}": "9",
    "{{ 7 - 2 - 1 }}": "4",
    "{{ 7 // 2 }},{{ 7 % 4 }}": "3,3",
    "{{ -7 // 2 }},{{ -7 % 4 }}": "-4,1",
    "{{ 7 // -2 }},{{ 7 % -4 }}": "-4,-1",
    "{{ - -7 }}": "7",
    "{{ 9223372036854775807 }}": "9223372036854775807",
    "{{ u + '/' + 'x' }}": "http://server.domain/path/x",
    "{{ '%03d' % 7 }}": "007",
    "{{ '%03d' % -7 }}": "-07",
    "{{ '%3d' % 7 }}": "  7",
    "{{ '%d' % 7 + 'x' }}": "7x",
    "{{ '100%%_%x' % 255 }}": "100%_ff",
    "{{ '%04x' % 255 }}": "00ff",
    "{{ '<%s>' % u }}": "<http://server.domain/path>",
    "{{ pad(n=42) }}": "00042",
    '{{ "{:03d}".format(7) }}': "007",
    '{{ "{}-{:x}-{:4}".format(u, 255, 7) }}': "http://server.domain/path-ff-   7",
    '{{ "{1:02d}{0}".format(5, 6) }}': "065",
    "no braces": "no braces",
    "{% no braces }} {": "{% no braces }} {",
    "a } b }} { {{u}} }}": "a } b }} { http://server.domain/path }}",
    "": "",
}


@pytest.mark.parametrize("url", EXPANDED)
def test_expressions_in_braces_are_evaluated(url: str) -> None:
    assert expand(url, TEMPLATES, key="a/0") == EXPANDED[url]


REFUSED = {
    # names
    "{{ nothing }}": "'nothing' is not defined",
    "{{ c }}": "'c' is not defined",
    "{{ f }}": "'c' is not defined",
    "{{ f(d=1) }}": "'c' is not defined",
    "{{ nothing(c=1) }}": "'nothing' is not defined",
    "{{ cycler }}": "'cycler' is not defined",
    "{{ range(9) }}": "'9' can't stand",
    "{{ true }}": "'true' is not defined",
    "{{ self }}": "'self' is not defined",
    # what template engines can do
    "{{ ''.__class__ }}": "only format",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}": "only format",
    "{{ u.__class__ }}": "'.' can't stand",
    "{{ u['x'] }}": "'[' can't stand",
    "{{ '{0.__class__}'.format(1) }}": "format takes fields",
    "{{ '{0[0]}'.format(u) }}": "format takes fields",
    "{{ '{!r}'.format(u) }}": "format takes fields",
    "{{ '{:>9}'.format(1) }}": "format takes fields",
    "{{ '{:999999999d}'.format(1) }}": "format takes fields",
    "{{ '{0}{}'.format(1, 2) }}": "format takes fields",
    "{{ '{}{}'.format(1) }}": "too few values",
    "{{ '{:03d}'.format('x') }}": "can't be formatted",
    "{{ 'x'.format }}": "'}}' can't stand",
    "{{ 'x'.format() }}": "')' can't stand",
    "{{ 'x'.upper() }}": "only format",
    "{{ u | upper }}": "'|' can't stand",
    "{{ u ~ u }}": "'~' can't stand",
    "{{ [1] }}": "'[' can't stand",
    "{{ {} }}": "'{' can't stand",
    "{{{u}}{u}}": "'{' can't stand",
    "{{ 1 if 1 else 2 }}": "'if' can't stand",
    "{{ not 1 }}": "'not' is not defined",
    "{{ 1 == 1 }}": "'=' can't stand",
    "{{ 9 ** 9 }}": "'*' can't stand",
    "{{ 9 / 3 }}": "'/' can't stand",
    "{{ 1.5 }}": "'.' can't stand",
    "{{ 1e5 }}": "'e5' can't stand",
    "{{ 0x10 }}": "'x10' can't stand",
    "{{ 010 }}": "begins with 0",
    "{{ '\\x41' }}": "\"'\" can't stand",
    "{{ 'a' 'b' }}": "can't stand",
    "{% raw %}{{ u }}{% endraw %}": "statements and comments",
    "{# {{ u }} #}": "statements and comments",
    # orders to strip white space, which look like signs
    "x {{- u }}": "ambiguous",
    "x {{-1}}": "ambiguous",
    "x {{+1}}": "ambiguous",
    "{{ u -}} x": "'}}' can't stand",
    # forms
    "{{": "not closed",
    "{{ ": "not closed",
    "{{u": "not closed",
    "{{ u } }": "'}' can't stand",
    "{{ 'u }}": "\"'\" can't stand",
    "{{ (1 }}": "'}}' can't stand",
    "{{ f(c=1 }}": "'}}' can't stand",
    "{{ f(1) }}": "'1' can't stand",
    "{{ f(c=1, c=2) }}": "'c' can't stand",
    "{{ f(c=1,) }}": "')' can't stand",
    "{{ }}": "'}}' can't stand",
    "{{}}": "'}}' can't stand",
    "{{ u u }}": "'u' can't stand",
    "{{ \u0661 }}": "can't stand",
    "{{ \u00fc }}": "can't stand",
    # types and numbers
    "{{ u + 1 }}": "+ can't be used on text",
    "{{ 1 + u }}": "+ can't be used on text",
    "{{ 'x' * 9 }}": "* can't be used on text",
    "{{ -u }}": "- can't be used on text",
    "{{ 1 % u }}": "% can't be used on text",
    "{{ '%d' % u }}": "can't be formatted",
    "{{ '%999d' % 1 }}": "the left side of %",
    "{{ '%-5d' % 1 }}": "the left side of %",
    "{{ '%(a)s' % 1 }}": "the left side of %",
    "{{ '%d%d' % 1 }}": "take one value",
    "{{ 'x' % 1 }}": "take one value",
    "{{ 1 // 0 }}": "divides by zero",
    "{{ 1 % (2 - 2) }}": "divides by zero",
    "{{ 9223372036854775808 }}": "2**63 or more",
    "{{ 9223372036854775807 + 1 - 1 }}": "2**63 or more",
    "{{ -9223372036854775807 - 1 }}": "2**63 or more",
    "{{ 4294967296 * 4294967296 // 4294967296 }}": "2**63 or more",
}


@pytest.mark.parametrize("url", REFUSED)
def test_all_else_is_refused_with_the_reason(url: str) -> None:
    assert REFUSED[url] in refused(url).reason


LOOPS = {
    "itself": {"a": "{{a}}"},
    "two": {"a": "x{{b}}", "b": "{{a}}y"},
    "by calls": {"a": "{{b(c=1)}}", "b": "{{a(c=c)}}"},
    "by an argument": {"a": "{{b(c=a)}}", "b": "{{c}}"},
}


@pytest.mark.parametrize("templates", LOOPS.values(), ids=LOOPS)
def test_templates_that_use_each_other_in_a_loop_are_refused(templates: dict[str, str]) -> None:
    assert "uses itself" in refused("{{a}}", templates).reason


def test_an_argument_comes_before_a_template_of_the_same_name() -> None:
    assert expand("{{ u(u='x') }}", {"u": "{{u}}"}, key="a/0") == "x"
    assert "not defined" in refused("{{ a(c='x') }}", {"a": "{{b}}", "b": "{{c}}"}).reason


HOSTILE: dict[str, tuple[str, dict[str, str]]] = {
    "deep brackets": ("{{" + "(" * 100_000 + "1" + ")" * 100_000 + "}}", {}),
    "brackets just within the length": ("{{" + "(" * 30_000 + "1" + ")" * 30_000 + "}}", {}),
    "many signs": ("{{ " + "-" * 60_000 + "1}}", {}),
    "a long sum": ("{{" + "+".join(["1"] * 30_000) + "}}", {}),
    "a number of 60,000 digits": ("{{" + "9" * 60_000 + "}}", {}),
    "an endless string": ("{{'" + "x" * 60_000, {}),
    "many openings": ("{{" * 30_000, {}),
    "many quotes": ("{{" + "'" * 60_001, {}),
    "blanks": ("{{" + " " * 60_000, {}),
    "a billion laughs": ("{{t0}}", {f"t{i}": f"{{{{t{i + 1}}}}}" * 10 for i in range(9)} | {"t9": "ha"}),
    "a billion times nothing": ("{{t0}}", {f"t{i}": f"{{{{t{i + 1}}}}}" * 10 for i in range(9)} | {"t9": ""}),
    "a long chain of templates": ("{{t0}}", {f"t{i}": f"{{{{t{i + 1}}}}}" for i in range(5000)} | {"t5000": ""}),
    "calls that double": (
        "{{t0(c='ha')}}",
        {f"t{i}": f"{{{{t{i + 1}(c=c+c)}}}}" for i in range(28)} | {"t28": "{{c}}"},
    ),
    "a long template many times": ("{{t}}" * 10_000, {"t": "x" * 65_000}),
    "copies of a long template": ("{{'{}'.format(" + ",".join(["t+''"] * 5_000) + ")}}", {"t": "x" * 65_000}),
    "a text that is too long": ("{{t}}" + "x" * 65_536, {"t": ""}),
    "an expansion that is too long": ("{{t}}x", {"t": "x" * 65_536}),
}


@pytest.mark.parametrize(("url", "templates"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_are_refused_soon_and_in_little_memory(url: str, templates: dict[str, str]) -> None:
    tracemalloc.start()
    began = time.perf_counter()
    refused(url, templates)
    spent = time.perf_counter() - began
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert spent < 2
    assert peak < 100_000_000


def test_65536_characters_are_not_too_many() -> None:
    assert len(expand("{{t}}x", {"t": "x" * 65_535}, key="a/0")) == 65_536


# Against Jinja, which fsspec renders with

jinja = SandboxedEnvironment()


def of_jinja(url: str) -> str:
    """Render as fsspec does: templates with braces are functions, which see their arguments alone."""

    def function(text: str) -> Callable[..., str]:
        return lambda **arguments: jinja.from_string(text).render(**arguments)

    context = {name: function(text) if "{{" in text else text for name, text in TEMPLATES.items()}
    return jinja.from_string(url).render(**context)


numbers = st.integers(-99, 99).map(str) | st.sampled_from(["(1+2)", "9223372036854775807", "3*4", "7//2", "-7 % 3"])
words = st.sampled_from(
    ["u", "'a'", '"b"', "f(c='t')", "f(c=3)", "pad(n=4)", "'%03d' % 7", "'{1}-{0:x}'.format(31, 2)"]
)
signs = st.sampled_from([" + ", " - ", "*", "//", "%", "+", "-", " ", "", ", ", "}}{{ ", ")", "("])
tokens = numbers | words | signs
urls = st.lists(tokens, min_size=1, max_size=7).map(lambda parts: "x{{ " + "".join(parts) + " }}y")


@given(urls)
@settings(thorough, max_examples=1000)
def test_what_is_not_refused_is_what_jinja_makes_of_it(url: str) -> None:
    try:
        found = expand(url, TEMPLATES, key="a/0")
    except InvalidReferences:
        return
    assert found == of_jinja(url)


@given(st.lists(st.sampled_from(["{{u}}", "{{ empty }}", "x", "{", "}", "{{", "}}", "{{f(c='')}}", "é"])).map("".join))
@thorough
def test_urls_of_plain_names_take_a_short_cut_to_the_same_end(url: str) -> None:
    try:
        found = expand(url, TEMPLATES, key="a/0")
    except InvalidReferences:
        found = None
    try:
        long_way = expand("{{f(c='')}}" + url, TEMPLATES, key="a/0")
    except InvalidReferences:
        long_way = None
    assert found == long_way


@given(st.text("{}'\"()+-*/%.,=| \n\\09afuxgd_é\u0661\ud800", max_size=40) | st.text(max_size=20))
@settings(thorough, max_examples=1000)
def test_any_text_gives_a_text_or_the_one_error(text: str) -> None:
    for url in (text, "{{" + text + "}}", "{{ f(c=" + text + ") }}", "{{ '" + text + "'.format(1) }}"):
        with contextlib.suppress(InvalidReferences):
            assert isinstance(expand(url, TEMPLATES, key="a/0"), str)


@given(st.dictionaries(st.sampled_from("abc"), st.text("{}abc()=+'x ", max_size=20), max_size=3), st.text("{}abc ()="))
@thorough
def test_any_templates_give_a_text_or_the_one_error(templates: dict[str, str], text: str) -> None:
    with contextlib.suppress(InvalidReferences):
        assert isinstance(expand("{{a}}" + text, templates, key="a/0"), str)
