"""The findings about containerd on a node, each setting changed on its own."""

import os

import pytest
from nodes import found

from dmsign_fast.node.containerd import node_of_containerd
from dmsign_fast.node.findings import State

CONTAINERD = """\
version = 3
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "erofs"
[plugins."io.containerd.snapshotter.v1.erofs"]
  dmverity_mode = "on"
  require_signatures = true
[plugins."io.containerd.differ.v1.erofs"]
  enable_dmverity = true
  mkfs_options = ["-T0", "--mkfs-time", "--sort=none"]
[plugins."io.containerd.service.v1.diff-service"]
  default = ["erofs", "walking"]
"""
# as containerd-acl-erofs.toml of microsoft/azure-container-linux sets it up, but for the mode
ACL = """\
[plugins."io.containerd.snapshotter.v1.erofs"]
  enable_dmverity_referrers = true
  dmverity_mode = "on"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "erofs"
[plugins."io.containerd.service.v1.diff-service"]
  default = ["erofs", "walking"]
"""


class TestContainerd:
    @pytest.fixture
    def node(self, node, tmp_path, monkeypatch):
        mkfs = tmp_path / "bin/mkfs.erofs"
        mkfs.parent.mkdir()
        mkfs.write_text("#!/bin/sh\necho 'mkfs.erofs (erofs-utils) 1.9.2'\n")
        mkfs.chmod(0o755)
        monkeypatch.setenv("PATH", str(mkfs.parent), prepend=os.pathsep)
        return node

    def containerd(self, node, text):
        findings = found(node.write("etc/containerd/config.toml", text))
        decisive = (State.PROBLEM, State.UNKNOWN)
        bad = [name for name, one in findings.items() if one.state in decisive]
        return findings, bad

    def test_set_up_as_a_recipe(self, node):
        findings, bad = self.containerd(node, CONTAINERD)
        assert bad == []
        assert findings["recipe"].evidence == "sign with --recipe containerd@1.9.2"
        assert "1.9.2" in findings["mkfs.erofs"].evidence
        assert "containerd" not in findings

    def test_stock_containerd_mounts_nothing_that_needs_a_signature(self, node):
        findings, bad = self.containerd(node, CONTAINERD.replace("require_signatures", "other"))
        assert bad == ["containerd signatures"]
        assert "passes no signature" in findings[bad[0]].evidence
        assert "enable_dmverity_referrers (a node acl)" in findings[bad[0]].advice

    def test_a_branch_of_containerd_reads_signatures(self, node):
        findings, _ = self.containerd(node, CONTAINERD)
        assert "sign with --artifact osguard" in findings["containerd signatures"].evidence
        assert node_of_containerd(node.system).name == "osguard"

    def test_azure_container_linux(self, node):
        findings, bad = self.containerd(node, ACL)
        assert bad == []
        assert "sign with --artifact acl --recipe containerd-tar-index" in (
            findings["containerd signatures"].evidence
        )
        assert "recipe" not in findings
        assert node_of_containerd(node.system).name == "acl"
        auto = ACL.replace('"on"', '"auto"')
        assert self.containerd(node, auto)[1] == ["containerd dmverity_mode"]

    def test_tar_index_is_another_recipe_and_needs_no_sort(self, node):
        text = CONTAINERD.replace(', "--sort=none"', "")
        text = text.replace("enable_dmverity", "enable_tar_index = true\n  enable_dmverity")
        findings, bad = self.containerd(node, text)
        assert bad == []
        assert findings["recipe"].evidence == "sign with --recipe containerd-tar-index@1.9.2"

    @pytest.mark.parametrize(
        ("old", "new", "name", "words"),
        [
            ("enable_dmverity = true", "", "containerd enable_dmverity", "false"),
            ('"on"', '"auto"', "containerd dmverity_mode", "mounted too"),
            ('"on"', '"off"', "containerd dmverity_mode", "off"),
            ('["erofs", "walking"]', '["walking"]', "containerd differ", "walking"),
            ('"-T0", ', "", "recipe", "-T0"),
            (', "--sort=none"', "", "recipe", "--sort=none"),
            ("mkfs_options", "other_options", "recipe", "--sort=none -T0 --mkfs-time"),
            ("enable_dmverity = true", "enable_dmverity = yes", "containerd", "not TOML"),
        ],
    )
    def test_what_would_not_enforce_is_a_problem(self, old, new, name, words, node):
        assert old in CONTAINERD
        findings, bad = self.containerd(node, CONTAINERD.replace(old, new))
        assert bad == [name]
        assert words in findings[name].evidence
        assert findings[name].advice

    def test_advice_is_toml_that_helps(self, node):
        findings, _ = self.containerd(node, CONTAINERD.replace('"-T0", ', ""))
        assert 'mkfs_options = ["--sort=none", "-T0", "--mkfs-time"]' in findings["recipe"].advice

    def test_more_options_are_noted(self, node):
        findings, bad = self.containerd(node, CONTAINERD.replace('"-T0"', '"-T0", "-zlz4"'))
        assert bad == []
        assert findings["recipe"].state is State.NOTE
        assert "-zlz4" in findings["recipe"].evidence

    @pytest.mark.parametrize("text", ["", "plugins = 7", '[plugins."other"]\nx = 1'])
    def test_another_snapshotter_decides_nothing(self, text, node):
        findings, bad = self.containerd(node, text)
        assert bad == []
        assert findings["containerd"].state is State.NOTE

    def test_the_older_place_of_the_snapshotter(self, node):
        text = CONTAINERD.replace(
            "io.containerd.cri.v1.images", 'io.containerd.grpc.v1.cri".containerd."x'
        )
        old = CONTAINERD.replace(
            '[plugins."io.containerd.cri.v1.images"]',
            '[plugins."io.containerd.grpc.v1.cri".containerd]',
        )
        assert self.containerd(node, old)[0]["containerd snapshotter"].state is State.OK
        assert self.containerd(node, text)[0]["containerd snapshotter"].state is State.NOTE

    def test_an_unsupported_mkfs_is_noted(self, node, tmp_path):
        (tmp_path / "bin/mkfs.erofs").write_text(
            "#!/bin/sh\necho 'mkfs.erofs (erofs-utils) 1.5.0'\n"
        )
        findings, _ = self.containerd(node, CONTAINERD)
        assert findings["mkfs.erofs"].state is State.NOTE
        assert "not supported" in findings["mkfs.erofs"].advice

    def test_options_in_two_words_are_the_same(self, node):
        text = CONTAINERD.replace('"-T0"', '"-T", "0"').replace('"--sort=none"', '"--sort", "none"')
        assert text != CONTAINERD
        findings, bad = self.containerd(node, text)
        assert bad == []
        assert findings["recipe"].state is State.OK

    def test_drop_ins_alone_are_read(self, node):
        node.write("etc/containerd/conf.d/10-kata.toml", CONTAINERD)
        findings = found(node)
        assert findings["containerd snapshotter"].state is State.OK
        assert "conf.d/10-kata.toml" in findings["containerd files"].evidence

    @pytest.mark.parametrize(
        "imports", ["", 'imports = ["conf.d/*.toml"]', 'imports = ["/etc/containerd/conf.d/*"]']
    )
    def test_the_last_file_has_the_last_word(self, imports, node):
        node.write("etc/containerd/conf.d/10-on.toml", CONTAINERD)
        node.write(
            "etc/containerd/conf.d/99-off.toml",
            '[plugins."io.containerd.snapshotter.v1.erofs"]\ndmverity_mode = "off"\n',
        )
        findings, bad = self.containerd(node, f"{imports}\n{CONTAINERD}")
        assert bad == ["containerd dmverity_mode"]
        assert findings["containerd enable_dmverity"].state is State.OK

    def test_imports_of_imports_and_of_themselves(self, node):
        node.write("etc/containerd/a.toml", 'imports = ["b.toml", "config.toml"]')
        node.write("etc/containerd/b.toml", CONTAINERD)
        findings, bad = self.containerd(node, 'imports = ["./a.toml", "missing.toml"]')
        assert bad == []
        assert findings["containerd snapshotter"].state is State.OK

    def test_a_bad_import_is_named(self, node):
        node.write("etc/containerd/bad.toml", "x = yes")
        findings, bad = self.containerd(node, 'imports = ["bad.toml"]')
        assert bad == ["containerd"]
        assert "bad.toml is not TOML" in findings["containerd"].evidence
        findings, bad = self.containerd(node, 'imports = ["/etc/*/x.toml"]')
        assert findings["containerd"].state is State.UNKNOWN

    def test_a_snapshotter_of_one_runtime(self, node):
        runtime = (
            '[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.kata]\n'
            'snapshotter = "erofs"\n'
        )
        text = CONTAINERD.replace('snapshotter = "erofs"', 'snapshotter = "overlayfs"') + runtime
        findings, bad = self.containerd(node, text)
        assert bad == []
        assert "erofs for the runtimes kata alone" in findings["containerd snapshotter"].evidence

    @pytest.mark.parametrize(
        "table",
        [
            'cri.v1.runtime".containerd.runtimes.runc',
            'cri.v1.images".runtime_platforms.runc',
            'grpc.v1.cri".containerd.runtimes.runc',
            'grpc.v1.cri".containerd',
        ],
    )
    def test_another_snapshotter_beside_erofs(self, table, node):
        more = f'[plugins."io.containerd.{table}]\nsnapshotter = "overlayfs"\n'
        findings, bad = self.containerd(node, CONTAINERD + more)
        assert bad == ["containerd snapshotter"]
        assert "but overlayfs" in findings["containerd snapshotter"].evidence

    def test_two_containerds(self, node):
        node.write("var/lib/rancher/k3s/agent/etc/containerd/config.toml", "version = 3")
        self.containerd(node, CONTAINERD)
        assert "rancher/k3s" in found(node)["containerd files"].evidence
        assert found(node)["containerd files"].state is State.UNKNOWN

    @pytest.mark.parametrize("name", ["k3s", "rke2"])
    def test_files_of_distributions(self, name, node):
        node.write(f"var/lib/rancher/{name}/agent/etc/containerd/config.toml", CONTAINERD)
        assert found(node)["recipe"].state is State.OK
