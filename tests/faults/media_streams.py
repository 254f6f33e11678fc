"""The part of the matrix of media whose streams, pictures' sides or headers are odd."""

from media_edits import cut, halves, lengths, matrix, patched, put, spoken, streamed, tags_first
from media_kinds import BFRAMES, FFV1, H264, MJPEG, MPEG2, VP8, Kind

MATRICES = {"upright": (1, 0, 0, 1), "left": (0, -1, 1, 0), "over": (-1, 0, 0, -1), "right": (0, 1, -1, 0)}
MIRRORS = {"mirrored": (-1, 0, 0, 1), "flipped": (1, 0, 0, -1), "transposed": (0, 1, 1, 0), "crossed": (0, -1, -1, 0)}
SIDES = {
    f"{name}.{ending}": patched(f"-t 0.4 {H264} -an -flags bitexact", matrix(*numbers))
    for name, numbers in (MATRICES | MIRRORS).items()
    for ending in ("mp4", "mov")
} | {
    "right_wide.mp4": patched(f"-t 0.4 -vf setsar=2/1 {H264} -an", matrix(0, 1, -1, 0)),
    "mirrored_wide.mov": patched(f"-t 0.4 -vf setsar=4/3 {H264} -an", matrix(-1, 0, 0, 1)),
    "crossed_b_frames.mp4": patched(f"-t 0.4 {BFRAMES} -an -movflags faststart", matrix(0, -1, -1, 0)),
    "told_by_stream.mp4": f"-t 0.4 {H264} -an -bsf:v h264_metadata=rotate=90",
    "mirrored_by_stream.mp4": f"-t 0.4 {H264} -an -bsf:v h264_metadata=flip=horizontal",
}
"""How the picture is to be turned."""

ENCODED = "-c:v:0 libx264 -preset:v:0 ultrafast -pix_fmt:v:0 yuv420p -c:a aac"
COVER = f"-i source.mkv -i cover.jpg -map 0 -map 1 {ENCODED} -c:v:1 copy -disposition:v:1 attached_pic"
ATTACHED = "-attach cover.jpg -metadata:s:t mimetype=image/jpeg -metadata:s:t filename=cover.jpg"
PROGRAMS = "-program st=0:st=1 -program st=2:st=3"
TWO_VIDEOS = "-i source.mkv -map 0:v -map 0:a -map 0:v"
TWO_SOUNDS = "-i source.mkv -i mono.wav -map 0:v -map 0:a -map 1:a"
SONG = "-i source.mkv -i cover.jpg -map 0:a -map 1 -c:v copy -disposition:v:0 attached_pic"
BOTH = {
    "cover_last.mp4": COVER,
    "cover_first.mp4": patched(COVER, tags_first),
    "cover.mkv": f"{BFRAMES} -c:a flac {ATTACHED}",
    "words.mkv": f"{BFRAMES} -c:a flac -attach words.srt -metadata:s:t mimetype=text/plain",
    "subtitles.mp4": f"-i source.mkv -i words.srt -map 0 -map 1 {BFRAMES} -c:a aac -c:s mov_text",
    "subtitles.mkv": f"-i words.srt -i source.mkv -map 0 -map 1 {BFRAMES} -c:a flac -c:s srt",
    "timecode.mov": f"{H264} -c:a pcm_s16le -timecode 01:00:00:00",
    "chapters.mp4": f"-i source.mkv -i chapters.txt -map 0 -map_metadata 1 {BFRAMES} -c:a aac",
    "two_videos.mkv": f"{TWO_VIDEOS} -filter:v:1 hflip {FFV1} -c:a flac",
    "two_videos.mp4": f"{TWO_VIDEOS} -filter:v:1 hflip,scale=192:128 {BFRAMES} -c:a aac",
    "two_languages.mkv": f"{TWO_SOUNDS} {FFV1} -c:a flac",
    "second_language_default.mkv": f"{TWO_SOUNDS} {FFV1} -c:a flac -disposition:a:1 default",
    "second_video_default.mkv": f"{TWO_VIDEOS} -filter:v:1 hflip {FFV1} -c:a flac -disposition:v:1 default",
    "two_programs.ts": f"-i source.mkv -map 0 -map 0 -filter:v:1 hflip {BFRAMES} -c:a aac {PROGRAMS}",
    "sound_first.mp4": f"-map 0:a -map 0:v {BFRAMES} -c:a aac",
    "sound_first.mkv": f"-map 0:a -map 0:v {FFV1} -c:a flac",
    "sound_first.ts": f"-map 0:a -map 0:v {BFRAMES} -c:a aac",
    "six.mkv": f"-i source.mkv -i six.wav -map 0:v -map 1:a {FFV1} -c:a flac",
    "six.ts": f"-i source.mkv -i six.wav -map 0:v -map 1:a {BFRAMES} -c:a ac3",
    "eight.mkv": f"-i source.mkv -i eight.wav -map 0:v -map 1:a {FFV1} -c:a pcm_s16le",
    "right_alone.mkv": f"-i source.mkv -i right.wav -map 0:v -map 1:a {FFV1} -c:a flac",
    "streamed.avi": streamed(f"{MJPEG} -c:a pcm_s16le", "avi"),
    "streamed.mkv": streamed(f"{BFRAMES} -c:a flac", "matroska"),
    "streamed.webm": streamed(f"{VP8} -c:a libopus", "webm"),
    "live.webm": f"{VP8} -c:a libopus -live 1",
    "streamed.flv": streamed(f"{BFRAMES} -c:a aac", "flv"),
    "streamed.mp4": streamed(f"{BFRAMES} -c:a aac -movflags frag_keyframe+empty_moov", "mp4"),
    "streamed.ts": streamed(f"{BFRAMES} -c:a aac", "mpegts"),
    "streamed.nut": streamed(f"{BFRAMES} -c:a aac", "nut"),
    "streamed.ogv": streamed("-c:v libtheora -q:v 7 -c:a libvorbis", "ogg"),
    "streamed.wmv": streamed("-c:v wmv2 -q:v 3 -c:a wmav2", "asf"),
    "streamed_length_0.avi": patched(f"{MJPEG} -c:a pcm_s16le", put(b"RIFF", 0, bytes(4))),
    "other_size.ts": halves(f"{BFRAMES} -c:a aac", f"-vf scale=192:128 {BFRAMES} -c:a aac"),
    "other_size.mpg": halves(f"{MPEG2} -c:a mp2", f"-vf scale=192:128 {MPEG2} -c:a mp2"),
    "cut.ts": cut(f"{BFRAMES} -c:a aac", 0.7),
    "cut_mpeg2.ts": cut(f"{MPEG2} -c:a mp2", 0.7),
}
PICTURES = {
    "other_size.h264": halves(f"{H264} -an", f"-vf scale=192:128 {H264} -an"),
    "other_size.mjpeg": halves(f"{MJPEG} -an", f"-vf scale=192:128 {MJPEG} -an"),
    "streamed.gif": streamed("-an", "gif"),
}
SOUNDS = {
    "cover.mp3": f"{SONG} -c:a libmp3lame -id3v2_version 3",
    "cover.flac": f"{SONG} -c:a flac",
    "cover.m4a": f"{SONG} -c:a aac",
    "cover.aiff": f"{SONG} -c:a pcm_s16be -write_id3v2 1",
    "cover.mka": f"-vn -c:a flac {ATTACHED}",
    "streamed.wav": streamed("-vn -c:a pcm_s16le -t 1.59", "wav"),
    "streamed_24.wav": streamed("-vn -c:a pcm_s24le -ac 1 -t 1.59", "wav"),
    "amr.amr": spoken("libopencore_amrnb", 8000),
    "amr.3gp": spoken("libopencore_amrnb", 8000),
    "streamed.flac": streamed("-vn -c:a flac", "flac"),
    "streamed.au": streamed("-vn -c:a pcm_s16be", "au"),
    "streamed.caf": streamed("-vn -c:a pcm_s16be", "caf"),
    "streamed.mp3": streamed("-vn -c:a libmp3lame", "mp3"),
    "streamed.ogg": streamed("-vn -c:a libopus", "ogg"),
    "streamed.aac": streamed("-vn -c:a aac", "adts"),
    "streamed.mka": streamed("-vn -c:a flac", "matroska"),
    "length_0.wav": patched("-vn -c:a pcm_s16le", lengths(bytes(4), bytes(4))),
    "length_7FFFF000.wav": patched("-vn -c:a pcm_s16le", lengths(b"\x24\xf0\xff\x7f", b"\0\xf0\xff\x7f")),
    "length_80000000.wav": patched("-vn -c:a pcm_s16le", lengths(b"\x24\0\0\x80", b"\0\0\0\x80")),
    "riff_length_0.wav": patched("-vn -c:a pcm_s16le", put(b"RIFF", 0, bytes(4))),
    "no_mask.wav": patched("-i six.wav -c:a pcm_s16le", put(b"fmt ", 4 + 20, bytes(4))),
    "tail.wav": patched("-vn -c:a pcm_s16le", lambda data: data + b"LIST\x08\0\0\0INFOabcd"),
    "tagged_end.mp3": patched("-vn -c:a libmp3lame", lambda data: data + b"TAG" + bytes(125)),
    "leading_rubbish.mp3": patched(
        "-vn -c:a libmp3lame -write_xing 0 -id3v2_version 0", lambda data: bytes(700) + data
    ),
}
LENGTHS = {"streamed_rf64.wav": streamed("-vn -c:a pcm_s16le -rf64 always", "wav")}
"""Sounds of which no FFmpeg reads a sample."""
OTHERS = {
    "other_rate.aac": halves("-vn -c:a aac", "-vn -c:a aac -ar 16000"),
    "other_rate.mp3": halves("-vn -c:a libmp3lame", "-vn -c:a libmp3lame -ar 16000"),
    "other_channels.aac": halves("-vn -c:a aac -ac 1", "-vn -c:a aac -ac 2"),
    "other_channels.mp3": halves("-vn -c:a libmp3lame -ac 1", "-vn -c:a libmp3lame -ac 2"),
}
"""Several recordings of other kinds in one file."""
CUT = {
    "cut.mp4": cut(f"{BFRAMES} -c:a aac", 0.7),
    "cut_faststart.mp4": cut(f"{BFRAMES} -c:a aac -movflags faststart", 0.7),
    "cut_fragmented.mp4": cut(f"{BFRAMES} -c:a aac -movflags frag_keyframe+empty_moov", 0.7),
    "cut.mov": cut(f"{MJPEG} -c:a pcm_s16le -movflags faststart", 0.7),
    "cut.mkv": cut(f"{FFV1} -c:a flac", 0.7),
    "cut.webm": cut(f"{VP8} -c:a libopus", 0.7),
    "cut.avi": cut(f"{MJPEG} -c:a pcm_s16le", 0.7),
    "cut.flv": cut(f"{BFRAMES} -c:a aac", 0.7),
}
CUT_SOUNDS = {
    "cut.wmv": cut("-c:v wmv2 -q:v 3 -c:a wmav2", 0.7),  # says no length; its sound ends in half a packet
    "cut.wav": cut("-vn -c:a pcm_s16le", 0.7),
    "cut_rf64.wav": cut("-vn -c:a pcm_s16le -rf64 always", 0.7),
    "cut.w64": cut("-vn -c:a pcm_s16le", 0.7),
    "cut.aiff": cut("-vn -c:a pcm_s16be", 0.7),
    "cut.au": cut("-vn -c:a pcm_s16be", 0.7),
    "cut.caf": cut("-vn -c:a pcm_s16be", 0.7),
    "cut.flac": cut("-vn -c:a flac", 0.7),
    "cut.mp3": cut("-vn -c:a libmp3lame", 0.7),
    "cut.m4a": cut("-vn -c:a aac -movflags faststart", 0.7),
}


def kinds() -> list[Kind]:
    """All of them."""
    rows = [
        (SIDES, "v", ""),
        (BOTH, "va", ""),
        (PICTURES, "v", ""),
        (SOUNDS, "a", ""),
        (LENGTHS, "a", "no sound"),
        (OTHERS, "a", "changes from"),
        (CUT, "va", "cut off"),
        (CUT_SOUNDS, "a", "cut off"),
    ]
    return [Kind(name, make, holds, refused=refused) for table, holds, refused in rows for name, make in table.items()]
