"""One log line an event: readable at a terminal, JSON in production."""

import structlog


def config(*, level: str, json: bool) -> dict:
    """Build Django's LOGGING, so that every logger of the standard library goes through structlog."""
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    from_standard = [structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name]
    shared = [structlog.contextvars.merge_contextvars, *from_standard, stamp]
    _configure_structlog(shared)
    render = structlog.processors.JSONRenderer() if json else _plain()
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": shared,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    *([structlog.processors.format_exc_info] if json else []),
                    render,
                ],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "django": {"level": level, "handlers": [], "propagate": True},
            "httpx": {"level": "WARNING"},
            "kombu": {"level": "WARNING"},
        },
    }


def _plain() -> structlog.dev.ConsoleRenderer:
    """Lines for a terminal; tracebacks without the values of variables, which may be secret."""
    return structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)


def _configure_structlog(shared: list) -> None:
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
