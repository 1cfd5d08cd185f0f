"""A second S3 server, by other people and for real storage, behind the tests of our own client.

It knows S3 and none of R2's own rules; `rules` names each of those.
"""
