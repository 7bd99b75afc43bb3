"""Snapshots for programs: list, freeze, read, download. Signed in as a member, or with the project's API key."""

from django.http import Http404
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiTypes, extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import APIException
from rest_framework.generics import ListAPIView, RetrieveAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alignment.manifest import ArtifactError
from labelapp.accounts.keys import KeyHolder
from labelapp.accounts.permissions import require_project
from labelapp.datasets.actions import NothingToFreeze, freeze_snapshot
from labelapp.datasets.views import file_response
from labelapp.models import Project, Snapshot

LISTED = 100


class SnapshotSerializer(serializers.ModelSerializer):
    created_by = serializers.SlugRelatedField(slug_field="username", read_only=True)

    class Meta:
        model = Snapshot
        fields = ["digest", "pairs_train", "pairs_test", "judgments", "created_by", "created_at", "manifest"]
        read_only_fields = fields


class CannotFreeze(APIException):
    """The project has nothing that a snapshot could hold, or the files of the same snapshot were changed."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "nothing_to_freeze"


def project_for(request: Request, slug: str) -> Project:
    """The project, for its key or for a member who may see its data. Raises Http404 for strangers, PermissionDenied."""
    if not isinstance(request.user, KeyHolder):
        return require_project(request.user, slug, "research").project
    if request.user.project.slug != slug:
        raise Http404("no such project")
    return request.user.project


class Snapshots(ListAPIView):
    """The newest 100 snapshots. POST freezes what stands: 201, or 200 where nothing has changed since."""

    serializer_class = SnapshotSerializer
    queryset = Snapshot.objects.none()
    pagination_class = None

    def get_queryset(self):
        project = project_for(self.request, self.kwargs["slug"])
        return project.snapshots.select_related("created_by")[:LISTED]

    @extend_schema(request=None, responses={200: SnapshotSerializer, 201: SnapshotSerializer})
    def post(self, request: Request, slug: str) -> Response:
        project = project_for(request, slug)
        newest = project.snapshots.first()
        by = None if isinstance(request.user, KeyHolder) else request.user
        try:
            snapshot = freeze_snapshot(project=project, by=by)
        except (NothingToFreeze, ArtifactError) as refusal:
            raise CannotFreeze(str(refusal)) from refusal
        code = status.HTTP_200_OK if snapshot == newest else status.HTTP_201_CREATED
        return Response(self.get_serializer(snapshot).data, status=code)


class OneSnapshot(RetrieveAPIView):
    """One snapshot with its manifest."""

    serializer_class = SnapshotSerializer
    queryset = Snapshot.objects.none()

    def get_object(self) -> Snapshot:
        return snapshot_for(self.request, **self.kwargs)


class SnapshotFile(APIView):
    """One of the snapshot's files, byte for byte; its SHA-256 is the ETag."""

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    def get(self, request: Request, slug: str, digest: str, name: str):
        return file_response(request._request, snapshot_for(request, slug=slug, digest=digest), name)


def snapshot_for(request: Request, *, slug: str, digest: str) -> Snapshot:
    return get_object_or_404(Snapshot, project=project_for(request, slug), digest=digest)
