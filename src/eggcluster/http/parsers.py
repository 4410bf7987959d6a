"""The parser in use: llhttp where it can be loaded, h11 elsewhere. Runs in the app workers."""

from collections.abc import Callable

from eggcluster.http.parser import Parser, ParserEvents


def load_parser() -> "tuple[Callable[[ParserEvents], Parser], type[Exception], type[Exception], type[Exception]]":
    """Return a function that makes a parser, and the exceptions SwitchProtocols, CallbackFailed and BadRequest."""
    try:
        import httptools
    except ImportError:  # a subinterpreter cannot load it
        from eggcluster.http import h11_parser as h11

        return h11.H11Parser, h11.SwitchProtocols, h11.CallbackFailed, h11.BadRequest
    return (
        httptools.HttpRequestParser,
        httptools.HttpParserUpgrade,
        httptools.HttpParserCallbackError,
        httptools.HttpParserError,
    )


new_parser, SwitchProtocols, CallbackFailed, BadRequest = load_parser()
