"""Imports smdebug before any test does, without its import warnings."""

import container.monitoring.debugger.smdebug_fixes  # noqa: F401
