"""The study: what are pseudo pairs worth, and what is the filter worth? On theatre, where the truth is known.

    python -m tests.bench.study FOLDER              all of it, some hours; kill it, run it again: it goes on
    python -m tests.bench.study FOLDER --small      a few clips and steps: that all parts fit, no more

Clips and pictures of theatre's train split go the whole way: import, pair, skeletons, pseudo videos by the embedded
teacher, measures, the judge `rules`. Three cuts are packed of the same pairs: those that the filter kept; all; and as
many as it kept, drawn by lot. On each cut the second stage is trained from the same teacher with three seeds. Then the
teacher, driven by skeletons, and the nine, driven by raw video, make the same held-out cases: figures, motions and
backgrounds that none of them saw.
"""
