"""smdebug warns as it is imported; here it is imported quietly, before any test does."""

import container.monitoring.debugger.smdebug_fixes  # noqa: F401
