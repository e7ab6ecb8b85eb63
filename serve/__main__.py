"""The `serve` command: what SageMaker runs in the image."""

import sys

from container.errors import BerthError
from container.extras import named_extra


def main() -> None:
    """Bind the port, then serve until SIGTERM. Takes no arguments: the environment configures it.

    gunicorn runs in this process, so that it receives signals as PID 1.
    """
    if len(sys.argv) > 1:
        sys.exit(f"serve: found argument {sys.argv[1]!r}, expected none; see serve/settings.py")
    try:
        with named_extra("serve", "serve"):
            from gunicorn.app.wsgiapp import WSGIApplication

            import serve.gunicorn_conf  # noqa: F401  # invalid settings end here, in one line
    except BerthError as error:
        sys.exit(f"serve: {error}")

    sys.argv[1:] = ["--config", "python:serve.gunicorn_conf", "serve.app:application()"]
    WSGIApplication("%(prog)s").run()


if __name__ == "__main__":
    main()
