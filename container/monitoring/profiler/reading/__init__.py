"""Readers of what a profiled job leaves, one a kind of file; each uses all that can be read.

`places` finds the files, `system` and `events` read SageMaker's two formats (`traces`, `phases`,
`ranks` and `containment` make sense of events), `operators` and `facts` read what berth adds. What
could not be read is said in `problems`, in plain words.
"""
