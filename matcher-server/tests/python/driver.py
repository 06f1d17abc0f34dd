"""Drives earmark-server through grpcio and server reflection only: no generated code.

    driver.py ADDRESS TRACK.wav CLIP.wav OFFSET_S

CLIP must begin OFFSET_S seconds into TRACK. Exits non-zero at the first wrong answer.
"""

import sys

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

PIECE_BYTES = 64 * 1024
TIMEOUT_S = 60


class Client:
    """Calls any method of the server by name."""

    def __init__(self, channel):
        self.channel = channel
        self.database = ProtoReflectionDescriptorDatabase(channel)
        self.pool = DescriptorPool(self.database)

    def message(self, name, **fields):
        return GetMessageClass(self.pool.FindMessageTypeByName(name))(**fields)

    def call(self, service, method, request):
        """`request` is a message, or an iterator of messages if the method takes a stream."""
        rpc = self.pool.FindServiceByName(service).FindMethodByName(method)
        streaming = not hasattr(request, "SerializeToString")
        make = self.channel.stream_unary if streaming else self.channel.unary_unary
        stub = make(
            f"/{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(rpc.output_type).FromString,
        )
        return stub(request, timeout=TIMEOUT_S)

    def status_name(self, answer):
        return answer.DESCRIPTOR.fields_by_name["status"].enum_type.values_by_number[
            answer.status
        ].name

    def match(self, audio):
        request = self.message("earmark.v1.MatchRequest", audio={"encoded": audio})
        return self.call("earmark.v1.MatchService", "Match", request)

    def catalog(self, method, **fields):
        request = self.message(f"earmark.v1.{method}Request", **fields)
        return self.call("earmark.v1.CatalogService", method, request)

    def add_track(self, audio, **header):
        name = "earmark.v1.AddTrackRequest"
        messages = [self.message(name, header=header)]
        for start in range(0, len(audio), PIECE_BYTES):
            messages.append(self.message(name, data=audio[start : start + PIECE_BYTES]))
        return self.call("earmark.v1.CatalogService", "AddTrack", iter(messages))


def check(what, condition, detail=""):
    if not condition:
        sys.exit(f"wrong: {what}: {detail}")
    print(f"ok: {what}")


def refused(call):
    try:
        return f"no error, but {call()}"
    except grpc.RpcError as error:
        return error.code()


def main(address, track_path, clip_path, offset_s):
    with open(track_path, "rb") as track, open(clip_path, "rb") as clip:
        track, clip = track.read(), clip.read()
    with grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(timeout=TIMEOUT_S)
        client = Client(channel)

        services = set(client.database.get_services())
        wanted = {"earmark.v1.MatchService", "earmark.v1.CatalogService", "grpc.health.v1.Health"}
        check("reflection lists the services", wanted <= services, services)

        request = client.message("grpc.health.v1.HealthCheckRequest")
        health = client.status_name(client.call("grpc.health.v1.Health", "Check", request))
        check("health is SERVING", health == "SERVING", health)

        metadata = {"title": "Tune", "artist": "Ångström", "attributes": {"policy": "block"}}
        added = client.add_track(track, track_id="tune-1", metadata=metadata)
        check("AddTrack answers with the track", added.track.track_id == "tune-1", added)

        found = client.match(clip)
        status = client.status_name(found)
        check("Match finds it", status == "MATCH_STATUS_MATCHED", found)
        best = found.matches[0]
        check("with its id", best.track_id == "tune-1", best)
        check("with its metadata", best.metadata.attributes["policy"] == "block", best)
        check("where it is", abs(best.reference_offset_s - offset_s) < 0.1, best)

        got = client.catalog("GetTrack", track_id="tune-1").track
        check("GetTrack reads it", got.metadata.artist == "Ångström", got)
        check("with its time", got.added_at.seconds > 1_600_000_000, got)
        ids = [track.track_id for track in client.catalog("ListTracks").tracks]
        check("ListTracks lists it", ids == ["tune-1"], ids)
        stats = client.catalog("GetStats")
        check("GetStats counts it", stats.track_count == 1 and stats.posting_count > 0, stats)

        removed = client.catalog("RemoveTrack", track_id="tune-1").track
        check("RemoveTrack answers with it", removed.track_id == "tune-1", removed)
        status = client.status_name(client.match(clip))
        check("Match finds it no more", status == "MATCH_STATUS_NO_MATCH", status)
        code = refused(lambda: client.catalog("GetTrack", track_id="tune-1"))
        check("GetTrack says NOT_FOUND", code == grpc.StatusCode.NOT_FOUND, code)

        code = refused(lambda: client.match(b"this is no audio"))
        check("garbage is INVALID_ARGUMENT", code == grpc.StatusCode.INVALID_ARGUMENT, code)
        code = refused(lambda: client.add_track(b"nor is this", track_id="bad"))
        check("also as an upload", code == grpc.StatusCode.INVALID_ARGUMENT, code)
    print("all answers are right")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
