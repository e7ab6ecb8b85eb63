"""smdebug warns as it is imported; here it is imported quietly, before any test does."""

import container.debugger.smdebug_fixes  # noqa: F401
