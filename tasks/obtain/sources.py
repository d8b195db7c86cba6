"""Where to get the original releases: data only; `tasks.obtain.download.fetch` acts on it.

A statement is called verified if it was seen on a host's or the authors' own pages, files or code,
or follows from them. None of these records could be opened while this was written: what they state
of themselves is compared at the time of a download, and stops it where it differs.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ReleaseSource:
    """What all sources have."""

    page: str
    """For a human to read, and to download from by hand."""
    licence: str
    """As far as known; for Zenodo and figshare what the record must state, e.g. "CC BY 4.0"."""
    consent: str = ""
    """Terms that one must agree to before the download; empty if attribution is all they ask."""
    verified: tuple[str, ...] = ()
    """What is known of the source for certain, and how."""
    unverified: tuple[str, ...] = ()
    """What is only reported or inferred."""


@dataclass(frozen=True, kw_only=True)
class ZenodoRecord(ReleaseSource):
    """A record of zenodo.org; its own listing tells names, sizes and MD5."""

    record: int
    files: tuple[str, ...] = ()
    """The files to take; empty: all."""


@dataclass(frozen=True, kw_only=True)
class FigshareArticle(ReleaseSource):
    """An article of figshare.com, in its newest version; its own listing tells sizes and MD5."""

    article: int
    files: tuple[str, ...] = ()
    """The files to take; empty: all."""


@dataclass(frozen=True, kw_only=True)
class GitHubFolder(ReleaseSource):
    """Files of a GitHub repository at one commit, each known by its git hash."""

    repository: str
    """owner/name"""
    commit: str
    """40 hexadecimal digits."""
    paths: tuple[str, ...]
    """Files and whole folders."""
    strip: str = ""
    """Beginning of the paths that is left away on this machine, e.g. "data/splits/"."""


@dataclass(frozen=True, kw_only=True)
class Url(ReleaseSource):
    """One file at an address."""

    url: str
    name: str
    checksum: str = ""
    """"sha256:..." or "md5:..."; empty: only its length can be checked, if the host tells it."""


@dataclass(frozen=True, kw_only=True)
class Manual(ReleaseSource):
    """A release that only a human can get."""

    steps: tuple[str, ...]
    """One sentence each, in order."""


# By the name of the folder in the data root (`tasks.home`); UltraBench's split files too.
SOURCES: dict[str, tuple[ReleaseSource, ...]] = {
    "aul": (
        ZenodoRecord(
            page="https://zenodo.org/records/7272660",
            licence="CC BY 4.0",
            record=7272660,
            verified=(
                "record: README of the authors' code and UltraBench's downloader",
                "terms: README of the authors' code: open, but subject to copyright, any use must "
                "receive acknowledgement and credit",
                "the zips unpack side by side: UltraBench's downloader",
            ),
            unverified=(
                "licence: a repository that mirrors the data says CC BY 4.0",
                "files, by users: Benign.zip (MD5 c37fef0cb2730236a79ef57e5315995e), "
                "Malignant.zip (63894a9e5654a69c3b94bda84071dfb0), "
                "Normal.zip (a7e16299b2cf12ca4a6c3468d2e4978f)",
            ),
        ),
    ),
    "busbra": (
        ZenodoRecord(
            page="https://zenodo.org/records/8231412",
            licence="CC BY 4.0",
            record=8231412,
            verified=(
                "LICENSE.txt of the release: free use; papers that use it must cite the article",
            ),
            unverified=(
                "record: 8231412 by five repositories of users, one of which gives the file "
                "BUSBRA.zip, 133917740 bytes, MD5 1f8b2be6476d58fc97bfb5e5a1ea9bab; the authors' "
                "README names 7730709, with another title of the collection",
                "licence: three repositories of users say that the record states CC BY 4.0",
            ),
        ),
    ),
    "busi": (
        Manual(
            page="https://scholar.cu.edu.eg/?q=afahmy/pages/dataset",
            licence="not stated",
            consent="No licence is stated: use it for research, and cite the paper.",
            steps=(
                "Download Dataset_BUSI.zip from the page, in a browser.",
                "Unpack it; the folder Dataset_BUSI_with_GT holds benign/, malignant/ and normal/ "
                "with <class> (n).png and <class> (n)_mask.png.",
            ),
            unverified=(
                "page: by many repositories of users; terms: by users, free for research with a "
                "citation",
            ),
        ),
    ),
    "butterfly": (
        Manual(
            page="https://github.com/ButterflyNetwork/MITGrandHack2018",
            licence="not open: solely for the MIT GrandHack 2018",
            consent="The README: solely for the MIT GrandHack 2018, no other purpose, no "
            "re-publication without written permission of Butterfly Network.",
            steps=(
                "Read the terms in the README of the repository, and ask Butterfly Network for "
                "written permission if your use is another.",
                "From its release v.0.0.1 download butterfly_dataset_training1.tar.gz, "
                "butterfly_dataset_training2.tar.gz and butterfly_dataset_test.tar.gz (not "
                "butterfly_mini_dataset.tar.gz).",
                "Unpack all three side by side.",
            ),
            verified=("terms and files: README of the repository, UltraBench's downloader",),
        ),
    ),
    "camus": (
        Manual(
            page="https://www.creatis.insa-lyon.fr/Challenge/camus/index.html",
            licence="CC BY-NC-SA 4.0",
            consent="Reported as CC BY-NC-SA 4.0: no commercial use; a paper that uses it must "
            "cite the article.",
            steps=(
                "Follow the page to the database at "
                "https://humanheart-project.creatis.insa-lyon.fr/database, and register there if "
                "it asks you to.",
                "Download the collection CAMUS_public (NIfTI), not the older .mhd files.",
                "Unpack it; the folder CAMUS_public holds database_nifti/ and database_split/.",
            ),
            verified=(
                "page: README of UltraBench",
                "citation: MANDATORY_CITATION.md of the .mhd release",
            ),
            unverified=("database, registration and licence: by repositories of users",),
        ),
    ),
    "ddti": (
        Manual(
            page="http://cimalab.unal.edu.co/applications/thyroid/",
            licence="not stated",
            consent="No licence is stated; the paper calls it an open access database.",
            steps=(
                "Download the archive of all cases from the page, in a browser (the address has "
                "changed over the years; the older one is "
                "http://cimalab.intec.co/applications/thyroid/).",
                "Unpack it; the folder holds <case>.xml and <case>_<number>.jpg side by side.",
            ),
            unverified=("page: by repositories of users; it was not seen",),
        ),
    ),
    "echonet-dynamic": (
        Manual(
            page="https://echonet.github.io/dynamic/",
            licence="Stanford University Dataset Research Use Agreement",
            consent="The Research Use Agreement of Stanford University: non-commercial research by "
            "the person who signed it; no copy may be passed on.",
            steps=(
                "Follow the page to the data set, sign in and accept the Research Use Agreement.",
                "Download EchoNet-Dynamic.zip.",
                "Unpack it; the folder EchoNet-Dynamic holds FileList.csv, VolumeTracings.csv and "
                "Videos/.",
            ),
            verified=("layout: the authors' loader",),
            unverified=("page, name of the archive and terms: by repositories of users",),
        ),
    ),
    "fatty_liver": (
        ZenodoRecord(
            page="https://zenodo.org/records/1009146",
            licence="CC BY 4.0",
            record=1009146,
            files=("dataset_liver_bmodes_steatosis_assessment_IJCARS.mat",),
            verified=("record and file: UltraBench's downloader and reader",),
            unverified=(
                "licence: two repositories of users say CC BY 4.0 and CC BY",
                "MD5 of the file, by a user: c87da28a498eae0f0874408c7ac92524",
            ),
        ),
    ),
    "gbcu": (
        Manual(
            page="https://gbc-iitd.github.io/data/gbcu",
            licence="by agreement only; not to be passed on",
            consent="A signed licence agreement with the authors, by a permanent member of staff.",
            steps=(
                "Download the licence agreement from the page.",
                "Have a permanent member of your institution's staff sign it and mail it to the "
                "addresses on the page; the authors answer with a link.",
                "Unpack what you receive; its folder is GBCU-Shared (imgs/, train.txt, test.txt).",
            ),
            unverified=(
                "terms: by repositories of users, one of which gives the two authors to mail to; "
                "the page itself was not seen",
            ),
        ),
    ),
    "hc18": (
        ZenodoRecord(
            page="https://zenodo.org/records/1327317",
            licence="CC BY 4.0",
            record=1327317,
            files=("training_set.zip", "training_set_pixel_size_and_HC.csv"),
            unverified=(
                "record, files and licence: repositories of users, one of which gives "
                "training_set.zip the MD5 00eb8198b9a505b2b3a6dfc740382497",
            ),
        ),
    ),
    "mmotu": (
        Manual(
            page="https://github.com/cv516Buaa/MMOTU_DS2Net",
            licence="not stated in the repository",
            consent="No licence is stated: use for research, and ask the authors for more.",
            steps=(
                "In the README of the repository follow the Google Drive link of the data set.",
                "Download OTU_2d (OTU_3d is not needed), in a browser.",
                "Unpack it; the folder holds images/, train_cls.txt and val_cls.txt.",
            ),
            unverified=(
                "link: by users of the data; the README of 2022 that was seen announces it only",
                "figshare article 25058690 is cited by eight repositories of users as MMOTU under "
                "CC BY 4.0; who put it there, and whether the lists are in it, is not known",
            ),
        ),
    ),
    "open-kidney": (
        Manual(
            page="https://rsingla.ca/kidneyUS/",
            licence="CC BY-NC-SA",
            consent="Reported as CC BY-NC-SA: no commercial use; the images are given to those who "
            "register.",
            steps=(
                "Register by the form on the page; the authors answer with a link to the images.",
                "Unpack the images into images/.",
                "Copy the folder labels/ of https://github.com/rsingla92/kidneyUS beside it "
                "(reviewed_labels_1.csv, reviewed_masks_1/capsule/).",
            ),
            verified=("page: README of UltraBench", "labels: the repository"),
            unverified=("licence and registration: by users; the page was not seen",),
        ),
    ),
    "pocus": (
        GitHubFolder(
            page="https://github.com/jannisborn/covid19_ultrasound",
            licence="per file: column License of dataset_metadata.csv",
            consent="Each file has a licence of its own (column License of dataset_metadata.csv); "
            "most are CC BY-NC 4.0, so that commercial use is excluded.",
            repository="jannisborn/covid19_ultrasound",
            commit="9e254a140b4faa2c200b8bb5cee2347b7198fbef",
            paths=(
                "data/pocus_images/convex",
                "data/pocus_videos/convex",
                "data/dataset_metadata.csv",
            ),
            verified=(
                "commit: the merge of 2021-02-25 in the history of a fork; two papers link to it",
                "it has 153 convex files, of which UltraBench's rule takes the 148 sources behind "
                "its documented counts",
                "licences: the table and README of the repository",
            ),
            unverified=("whether later commits change these folders",),
        ),
    ),
    "psfhs": (
        ZenodoRecord(
            page="https://zenodo.org/records/10969427",
            licence="CC BY 4.0",
            record=10969427,
            files=("PSFHS.zip",),
            verified=("record: README and downloader of UltraBench",),
            unverified=(
                "licence: two repositories of users say CC BY 4.0",
                "file: by a user, with the SHA-256 "
                "3f4a8126c84640e4d1b8a4e296d0dfd599cea6529b64b9ee00e5489bfd17ea95",
            ),
        ),
    ),
    "stanford-thyroid": (
        Manual(
            page="https://stanfordaimi.azurewebsites.net/datasets/"
            "a72f2b02-7b53-4c5d-963c-d7253220bfd5",
            licence="by agreement only; not to be passed on",
            consent="Stanford's research use agreement.",
            steps=(
                "Sign in on the page (Thyroid Ultrasound Cine-clip) and accept the agreement.",
                "Download the folder thyroidultrasoundcineclip; it holds dataset.hdf5 and "
                "metadata.csv.",
            ),
            verified=("page and files: README and reader of UltraBench",),
            unverified=("terms: the page itself was not seen",),
        ),
    ),
    "tn5000": (
        FigshareArticle(
            page="https://doi.org/10.6084/m9.figshare.28455641",
            licence="CC BY 4.0",
            article=28455641,
            verified=("article: README of the authors' code",),
            unverified=(
                "licence: two lists of data sets say CC BY 4.0",
                "file: TN5000_forReview.zip, by users",
            ),
        ),
    ),
    "ultrabench_splits": (
        GitHubFolder(
            page="https://github.com/adamtupper/ultrabench",
            licence="MIT",
            repository="adamtupper/ultrabench",
            commit="a795300b787afe6404f4eb5f547301d46891c921",
            paths=("data/splits",),
            strip="data/splits/",
            verified=("commit, paths and licence: the repository at this commit",),
        ),
    ),
}


def steps(task: str, folder: str) -> list[str]:
    """How to get the images of a task: sentences and commands; none if no source is known.

    Args:
        task: its name.
        folder: what its folder of a data root is called.
    """
    told = []
    for source in SOURCES.get(folder, ()):
        if isinstance(source, Manual):
            told += [*source.steps, f"Put it into DATA/{folder}."]
        else:
            consent = " --accept-license" if source.consent else ""
            told.append(f"ubench data download {task} --data DATA{consent}")
        told.append(f"Terms of {source.page}: {source.consent or source.licence}")
    return told
