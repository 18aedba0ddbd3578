"""Shards: tars of samples that plain `webdataset` reads, cut so that the same samples give the same bytes.

A CUT is a folder `shards/<name>` with tars, a page beside each tar that says where each member lies in it, and
`index.json`, written last, which names them all. Tars and pages carry the digest of what they hold in their names and
are never changed; a new index names others.
"""
