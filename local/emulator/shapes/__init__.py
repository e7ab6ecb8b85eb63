"""AWS's own description of its APIs, as botocore carries it, and requests checked against it."""
