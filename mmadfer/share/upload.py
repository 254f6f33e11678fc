"""A folder with the files of a model to the hub, in one commit: all of it is there, or nothing."""

from pathlib import Path

from mmadfer.errors import HubError
from mmadfer.share import names
from mmadfer.share.address import COMMIT, HubAddress
from mmadfer.share.client import api, client, in_words


def check_target(address: HubAddress) -> None:
    """Whether something can be pushed to an address, before any work.

    Raises:
        HubError: its revision is a commit, which nothing can be added to.
        MissingDependencyError: huggingface_hub is not installed.
    """
    client()
    if COMMIT.fullmatch(address.revision or ""):
        raise HubError(f"{address} names a commit, which stays as it is: push to a branch, or leave the revision out")


def upload(folder: Path, address: HubAddress, private: bool, message: str) -> str:
    """Push the files of a folder; those of an earlier push that it lacks go. Returns the commit.

    Args:
        folder: with files of a shared model; others are left out.
        address: the repository, which is made where it is not there, and a branch of it.
        private: only its owners see the repository; one that others see is refused.
        message: of the commit.

    Raises:
        HubError: the hub refuses, or cannot be reached, or the repository is not private; nothing of the push is
            visible then.
    """
    hub, sent = api(), names.allowed(one.name for one in folder.iterdir())
    with in_words(address):
        hub.create_repo(address.repo, private=private, exist_ok=True)
        if private and not hub.model_info(address.repo).private:  # one that is there stays as it is
            raise HubError(
                f"{address} is public, and --private was asked: make it private on the hub, or push to another name"
            )
        if address.revision:
            hub.create_branch(address.repo, branch=address.revision, exist_ok=True)
        info = hub.model_info(address.repo, revision=address.revision)
        old = {one.rfilename for one in info.siblings or ()} - {*sent}
        operations = [client().CommitOperationAdd(name, str(folder / name)) for name in sent]
        operations += [client().CommitOperationDelete(name) for name in names.allowed(old)]
        done = hub.create_commit(address.repo, operations, commit_message=message, revision=address.revision)
    return str(done.oid)
