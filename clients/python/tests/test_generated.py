"""The generated code is what generate.py makes of the .proto files as they are now."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

import generate

HOW = "run `python generate.py` and commit what it makes"


def pinned_version() -> str:
    text = (generate.HERE / "requirements-generate.txt").read_text("utf-8")
    return text.partition("grpcio-tools==")[2].split()[0]


def module_of(proto_name: str, suffix: str) -> str:
    return f"{generate.PACKAGE}.{proto_name[: -len('.proto')].replace('/', '.')}{suffix}"


def without_json_names(file: FileDescriptorProto) -> bytes:
    """A descriptor as bytes; protoc writes names of fields in JSON, modules leave them out."""
    copy = FileDescriptorProto.FromString(file.SerializeToString())
    messages = list(copy.message_type)
    while messages:
        message = messages.pop()
        messages.extend(message.nested_type)
        for field in message.field:
            field.ClearField("json_name")
    return copy.SerializeToString(deterministic=True)


def test_descriptors_are_those_of_the_proto_files() -> None:
    fresh = generate.compile_descriptors()
    assert sorted(file.name for file in fresh.file) == generate.proto_names(), HOW
    for file in fresh.file:
        committed = FileDescriptorProto()
        importlib.import_module(module_of(file.name, "_pb2")).DESCRIPTOR.CopyToProto(committed)
        assert without_json_names(committed) == without_json_names(file), f"{file.name}: {HOW}"


def test_every_method_has_a_stub() -> None:
    class Channel:
        def __getattr__(self, kind: str) -> object:
            return lambda path, **serializers: (kind, path)

    kinds = {False: "unary", True: "stream"}
    for file in generate.compile_descriptors().file:
        for service in file.service:
            module = importlib.import_module(module_of(file.name, "_pb2_grpc"))
            stub = getattr(module, f"{service.name}Stub")(Channel())
            for method in service.method:
                kind = f"{kinds[method.client_streaming]}_{kinds[method.server_streaming]}"
                expected = (kind, f"/{file.package}.{service.name}/{method.name}")
                assert getattr(stub, method.name) == expected, HOW


def test_files_are_those_that_the_script_makes(tmp_path: Path) -> None:
    fresh = tmp_path / "generated"
    generate.generate(fresh)

    def files(folder: Path) -> dict[str, str]:
        paths = (path for path in folder.rglob("*.py*") if path.suffix in (".py", ".pyi"))
        return {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in paths}

    made, committed = files(fresh), files(generate.OUTPUT)
    assert sorted(made) == sorted(committed), HOW
    if version("grpcio-tools") == pinned_version():
        for name, text in made.items():
            assert text == committed[name], f"{name}: {HOW}"


def test_a_module_named_earmark_is_left_alone() -> None:
    importlib.import_module("earmark_client")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("earmark")
