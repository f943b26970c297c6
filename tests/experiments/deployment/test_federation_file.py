"""The federation file as the engineer at the centre writes it."""

import pytest

from experiments.deployment.federation_file import read_plan
from experiments.deployment.node_keys import make_node_key
from strategies.settings import SettingsError

HEAD = 'name = "trial"\naddress = "fl.example.org"\n'
SITE = '[[site]]\nname = "hillside"\n'


def mistakes_of(text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        read_plan(text)
    return str(caught.value)


def test_the_shortest_file_gets_careful_defaults() -> None:
    plan = read_plan(HEAD + SITE)
    assert (plan.port, plan.valid_days, plan.also) == (8000, 365, ())
    site = plan.sites[0]
    assert site.public_key == ""
    assert site.limits == {"min-patients": 3, "max-prototypes": 0, "apps": []}
    assert site.machine["device"] == "auto"
    assert site.image.startswith("endofed-site:")
    assert plan.image.startswith("endofed-server:")


def test_what_a_site_says_of_itself_wins_over_what_all_sites_share() -> None:
    plan = read_plan(
        HEAD
        + "[limits]\nmin-patients = 4\nmax-rounds-per-day = 9\n[privacy]\nclip-norm=1\n"
        + SITE
        + 'classes = ["guidewire"]\ncpus = 1.5\n[site.limits]\nmin-patients = 7\n'
        + "[site.privacy]\nnoise-multiplier = 0.5\n"
        + '[[site]]\nname = "all"\n'
    )
    assert [site.name for site in plan.sites] == ["all", "hillside"]
    one, other = plan.site("hillside"), plan.site("all")
    assert one is not None
    assert other is not None
    assert (one.limits["min-patients"], other.limits["min-patients"]) == (7, 4)
    assert one.limits["max-rounds-per-day"] == 9
    assert one.privacy == {"clip-norm": 1, "noise-multiplier": 0.5}
    assert (one.machine["cpus"], other.machine["cpus"]) == (1.5, 2)
    assert one.data == {"data": "/data", "classes": ["guidewire"]}


@pytest.mark.parametrize("line", ["gpus = 1", 'device = "cuda"'])
def test_a_site_with_a_gpu_gets_the_image_with_cuda(line: str) -> None:
    (site,) = read_plan(HEAD + SITE + line).sites
    assert site.image.startswith("endofed-site-cuda:")
    (site,) = read_plan('image = "own:2"\n' + HEAD + SITE + line).sites
    assert site.image == "own:2"


@pytest.mark.parametrize(
    ("address", "wanted"),
    [("fl.example.org", "fl.example.org:8000"), ("2001:db8::5", "[2001:db8::5]:8000")],
)
def test_an_ipv6_address_stands_in_brackets(address: str, wanted: str) -> None:
    plan = read_plan(f'name = "trial"\naddress = "{address}"\n{SITE}')
    assert plan.host_and_port == wanted


def test_all_mistakes_are_reported_together() -> None:
    said = mistakes_of(
        'adress = "x"\nname = "a b"\nport = 70000\n'
        '[limits]\nmodels = ["sam-tinny"]\n'
        '[[site]]\ndevice = "tpu"\n'
        '[[site]]\nname = "north"\nlayout = "zip"\ngpu = 1\n'
        "[site.limits]\nmin-patient = 2\n"
    )
    for part in (
        "10 mistake(s)",
        "address is missing",
        "unknown key 'adress', did you mean 'address'?",
        "name must be 1 to 40 letters",
        "port must be a whole number from 1 to 65535",
        "[limits]: models must be",
        "site 1: name is missing",
        "site 1: device must be one of auto, cpu, cuda",
        "site 2 'north': layout must be one of",
        "site 2 'north': unknown key 'gpu', did you mean 'gpus'?",
        "site 2 'north': [limits]: unknown key 'min-patient'",
    ):
        assert part in said, said


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "-rf", ".hidden", "server", "CA", "x" * 41, "a\nb"]
)
def test_a_name_that_cannot_be_a_folder_or_a_word_of_a_command_is_refused(
    name: str,
) -> None:
    text = HEAD + SITE.replace("hillside", name.replace("\n", "\\n"))
    assert "site 1: name must be" in mistakes_of(text)


def test_names_must_differ_in_more_than_capitals() -> None:
    said = mistakes_of(HEAD + SITE + SITE.replace("hill", "Hill"))
    assert "'hillside' is used 2 times" in said


@pytest.mark.parametrize(
    "address", ["https://fl.example.org", "fl.example.org:8000", "a b", "", "-a.org"]
)
def test_an_address_is_a_host_and_nothing_else(address: str) -> None:
    said = mistakes_of(f'name = "t"\naddress = "{address}"\nalso = ["ok", "*"]\n{SITE}')
    assert "address must be a DNS name or an IP address" in said
    assert "also must be a list" in said


def test_two_sites_cannot_have_one_key() -> None:
    key = f'public-key = "{make_node_key().public} comment"\n'
    said = mistakes_of(HEAD + SITE + key + SITE.replace("hillside", "other") + key)
    assert "'hillside' and 'other' have the same public-key" in said


def test_a_private_key_in_the_file_is_refused_and_not_repeated() -> None:
    private = make_node_key().private.decode()
    said = mistakes_of(HEAD + SITE + f"public-key = '''{private}'''\n")
    assert "must not leave" in said
    assert private.splitlines()[1] not in said


def test_labels_must_lead_to_classes_that_the_site_annotates() -> None:
    said = mistakes_of(
        HEAD + SITE + 'classes = ["catheter"]\nlabels = { wire = "guidewire" }\n'
    )
    assert "site 1 'hillside': labels lead to guidewire" in said


def test_bounds_of_settings_that_do_not_exist_are_found() -> None:
    said = mistakes_of(HEAD + '[limits.settings]\n"train.step" = { max = 3 }\n' + SITE)
    assert "did you mean 'train.steps'" in said


def test_noise_without_a_norm_is_found_once() -> None:
    noise = "[privacy]\nnoise-multiplier = 1\n"
    said = mistakes_of(HEAD + noise + SITE + "[site.privacy]\nnoise-multiplier = 2\n")
    assert said.count("noise-multiplier needs clip-norm") == 1


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "name is missing"),
        (HEAD, "at least one [[site]]"),
        (HEAD + 'site = "x"', "write each hospital as a [[site]] table"),
        (HEAD + 'limits = "x"\n' + SITE, "limits must be a table"),
        (HEAD + "valid-days = true\n" + SITE, "valid-days must be a whole number"),
        (HEAD + "valid-days = 99999\n" + SITE, "from 1 to 3650"),
        (HEAD + 'image = "a b"\n' + SITE, "image must be the name"),
        (HEAD + SITE + 'data = "frames"\n', "data must be a path inside"),
        (HEAD + "name name", "not valid TOML near line 3"),
    ],
)
def test_odd_files_get_a_clear_word(text: str, part: str) -> None:
    assert part in mistakes_of(text)
