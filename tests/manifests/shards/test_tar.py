"""Tars as other programs see them, and tars that are not to be trusted."""

import hashlib
import io
import subprocess
import tarfile

import pytest

from manifests.shards.tar import BLOCK, ShardError, TarWriter, walk

FILES = {"a.json": b"{}", "a.mp4": b"x" * 1300, "b.npy": b"", "b.png": bytes(512)}


def write(path, files=FILES):
    with open(path, "wb") as file:
        tar = TarWriter(file)
        members = [tar.add(name, data) for name, data in files.items()]
        return members, tar.close(), tar.bytes


def foreign(path, *infos):
    """Write a tar by Python's own module, of (TarInfo, bytes)."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for info, data in infos:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def info(name, kind=tarfile.REGTYPE, link=""):
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


def test_pythons_tarfile_and_gnu_tar_read_back_what_was_written(tmp_path):
    _, sha256, size = write(tmp_path / "a.tar")
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert {each.name: tar.extractfile(each).read() for each in tar.getmembers()} == FILES
        assert {(each.mtime, each.uid, each.gid, each.uname, each.mode) for each in tar} == {(0, 0, 0, "", 0o644)}
    listed = subprocess.run(["tar", "tf", tmp_path / "a.tar"], capture_output=True, text=True, check=True)
    assert (listed.stdout.split(), listed.stderr) == (list(FILES), "")
    data = (tmp_path / "a.tar").read_bytes()
    assert (hashlib.sha256(data).hexdigest(), len(data)) == (sha256, size)


def test_members_lie_where_the_writer_says(tmp_path):
    members, _, _ = write(tmp_path / "a.tar")
    data = (tmp_path / "a.tar").read_bytes()
    assert {each.name: data[each.offset : each.offset + each.size] for each in members} == FILES
    assert list(walk(tmp_path / "a.tar")) == members


def test_equal_files_give_equal_bytes_at_any_time(tmp_path):
    for name in ("one", "two"):
        write(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ([(info("../../etc/passwd"), b"x")], "climbs out of the folder"),
        ([(info("/etc/passwd"), b"x")], "climbs out of the folder"),
        ([(info("a/../../b.json"), b"x")], "climbs out of the folder"),
        ([(info("a.json"), b"x"), (info("a.json"), b"y")], "the key 'a.json' is there twice"),
        ([(info("a.json", tarfile.SYMTYPE, "/etc/passwd"), b"")], "is a link, a folder or a device"),
        ([(info("a", tarfile.DIRTYPE), b"")], "is a link, a folder or a device"),
    ],
)
def test_a_tar_that_is_not_to_be_trusted_is_refused_in_one_sentence(tmp_path, made, said):
    path = foreign(tmp_path / "a.tar", *made)
    with pytest.raises(ShardError, match=said) as error:
        list(walk(path))
    assert "\n" not in str(error.value)


def test_a_tar_that_ends_too_early_is_found_wherever_it_ends(tmp_path):
    members, _, size = write(tmp_path / "a.tar")
    data = (tmp_path / "a.tar").read_bytes()
    ends = [
        0,
        1,
        BLOCK - 1,
        BLOCK,
        members[1].offset,
        members[1].offset + 700,
        members[3].offset,
        size - BLOCK,
        size - 1,
    ]
    for end in ends:
        (tmp_path / "cut.tar").write_bytes(data[:end])
        with pytest.raises(ShardError, match=r"cut.tar ends too early: what should follow byte \d+ is cut off"):
            list(walk(tmp_path / "cut.tar"))


def test_a_tar_with_a_damaged_header_or_that_is_none_is_refused(tmp_path):
    members, _, _ = write(tmp_path / "a.tar")
    data = bytearray((tmp_path / "a.tar").read_bytes())
    data[members[1].offset - BLOCK + 3] ^= 1
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(ShardError, match=r"a\.tar is damaged: there is no tar header at byte 1024"):
        list(walk(tmp_path / "a.tar"))
    with pytest.raises(ShardError, match=r"gone.tar cannot be read \(No such file"):
        list(walk(tmp_path / "gone.tar"))
