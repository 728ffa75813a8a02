"""An RTSP server of two cameras, /mjpeg and /h264. Arguments: port, clip for /h264 (MP4), and user:password where it asks for them."""
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer

Gst.init(None)
port, clip, *known = sys.argv[1:]
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(port)


def mount(path, launch):
    factory = GstRtspServer.RTSPMediaFactory()
    # One media per client: with a shared one GStreamer 1.22 crashes or never answers where two clients begin at the same moment.
    factory.set_launch(launch)
    if known:
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role("viewer", "media.factory.access", True)
        permissions.add_permission_for_role("viewer", "media.factory.construct", True)
        factory.set_permissions(permissions)
    server.get_mount_points().add_factory(path, factory)


raw = "video/x-raw,width=320,height=240,framerate=10/1,format=I420"
mount("/mjpeg", f"( videotestsrc is-live=true ! {raw} ! jpegenc ! rtpjpegpay name=pay0 pt=26 )")
mount("/h264", f"( filesrc location={clip} ! qtdemux ! h264parse ! rtph264pay name=pay0 pt=96 )")
if known:
    user, password = known[0].split(":")
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth = GstRtspServer.RTSPAuth()
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    auth.add_digest(user, password, token)
    server.set_auth(auth)
if server.attach(None) == 0:
    sys.exit("the port is taken")
print("ready", flush=True)
GLib.MainLoop().run()
