from manifests.identities import codes_of, same_name


def test_names_are_one_identity_whatever_their_case_spaces_and_accents():
    assert len({same_name(name) for name in ("José  Ruiz", " jose\u0301 ruiz", "JOSÉ\tRUIZ", "Ｊosé ruiz")}) == 1
    assert same_name("Straße") == same_name("STRASSE")
    assert same_name("Ann") != same_name("Anne")


def test_codes_are_equal_across_columns_and_unknown_is_nobody():
    one, other = codes_of(["Ann", None, "Ben"], ["ben", "ann ", "", "Cy"])
    assert one.tolist() == [0, -1, 1]
    assert other.tolist() == [1, 0, -1, 2]
