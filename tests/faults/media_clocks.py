"""The part of the matrix of media whose clocks are odd, as those of calls, browsers, receivers and cameras are."""

from media_edits import copied, drift, edited, halves, joined, pause, without
from media_kinds import BFRAMES, FFV1, H264, MPEG2, MPEG4, VP8, Kind

LATE_SOUND = "-i source.mkv -itsoffset 0.5 -i source.mkv -map 0:v -map 1:a"
LATE_PICTURES = "-itsoffset 0.5 -i source.mkv -i source.mkv -map 0:v -map 1:a"
UNEVEN = "-vf select=not(eq(mod(n\\,5)\\,1))*not(between(n\\,11\\,19)) -fps_mode vfr"
AAC, OPUS, FLAC, MP2 = "-c:a aac", "-c:a libopus", "-c:a flac", "-c:a mp2"
WRAP = 2**33 / 90000
TAIL = "-i source.mkv -t 0.8 -output_ts_offset"
"""The start of a part that counts from elsewhere."""

STARTS = {
    "from_5.mkv": f"{BFRAMES} {AAC} -output_ts_offset 5",
    "from_5.mp4": f"{BFRAMES} {AAC} -output_ts_offset 5",
    "from_5.mov": f"{BFRAMES} -c:a pcm_s16le -output_ts_offset 5",
    "from_5_fragmented.mp4": f"{BFRAMES} {AAC} -output_ts_offset 5 -movflags frag_keyframe+empty_moov",
    "from_5.webm": f"{VP8} {OPUS} -output_ts_offset 5",
    "from_5.flv": f"{BFRAMES} {AAC} -output_ts_offset 5",
    "from_5.ts": f"{BFRAMES} {AAC} -output_ts_offset 5",
    "from_5.mpg": f"{MPEG2} {MP2} -output_ts_offset 5",
    "from_5.ogg": "-vn -c:a libvorbis -output_ts_offset 5",
    "from_5.mka": f"-vn {FLAC} -output_ts_offset 5",
    "from_5.wmv": "-c:v wmv2 -q:v 3 -c:a wmav2 -output_ts_offset 5",
    "before_0.mkv": f"{H264} {FLAC} -output_ts_offset -0.4 -avoid_negative_ts disabled",
    "before_0.mp4": f"{H264} {AAC} -output_ts_offset -0.4 -avoid_negative_ts disabled",
    "before_0.ts": f"{BFRAMES} {AAC} -output_ts_offset -5 -avoid_negative_ts disabled",
    "air.ts": f"{MPEG2} -bf 2 {MP2} -output_ts_offset 40000",
    "air_upper_half.ts": f"{MPEG2} -bf 2 {MP2} -output_ts_offset 60000",
    "wraps.ts": f"{BFRAMES} {AAC} -output_ts_offset {WRAP - 2.2}",
    "wraps_early.ts": f"{MPEG2} -bf 2 {MP2} -output_ts_offset {WRAP - 1.5}",
    "wraps_between.ts": f"{LATE_SOUND} {MPEG2} {MP2} -output_ts_offset {WRAP - 1.6}",
    "wraps.m2ts": f"{BFRAMES} -c:a ac3 -mpegts_m2ts_mode 1 -output_ts_offset {WRAP - 2.2}",
    "wraps.mpg": f"{MPEG2} {MP2} -output_ts_offset {WRAP - 1.3}",
    "late_sound.mp4": f"{LATE_SOUND} {H264} {AAC}",
    "late_sound.mov": f"{LATE_SOUND} {H264} -c:a pcm_s16le",
    "late_sound.mkv": f"{LATE_SOUND} {H264} {FLAC}",
    "late_sound.webm": f"{LATE_SOUND} {VP8} {OPUS}",
    "late_sound.ts": f"{LATE_SOUND} {BFRAMES} {AAC}",
    "late_sound.mpg": f"{LATE_SOUND} {MPEG2} {MP2}",
    "late_sound.flv": f"{LATE_SOUND} {H264} {AAC}",
    "late_sound.avi": f"{LATE_SOUND} {MPEG4} -c:a pcm_s16le",
    "late_sound.ogv": f"{LATE_SOUND} -c:v libtheora -c:a libvorbis",
    "late_sound.wmv": f"{LATE_SOUND} -c:v wmv2 -c:a wmav2",
    "late_pictures.mp4": f"{LATE_PICTURES} {H264} {AAC}",
    "late_pictures.mov": f"{LATE_PICTURES} {H264} -c:a pcm_s16le",
    "late_pictures.mkv": f"{LATE_PICTURES} {H264} {FLAC}",
    "late_pictures.webm": f"{LATE_PICTURES} {VP8} {OPUS}",
    "late_pictures.ts": f"{LATE_PICTURES} {BFRAMES} {AAC}",
    "late_pictures.mpg": f"{LATE_PICTURES} {MPEG2} {MP2}",
    "late_pictures.flv": f"{LATE_PICTURES} {H264} {AAC}",
    "short_sound.mkv": f"-i source.mkv -t 0.7 -i stereo.wav -map 0:v -map 1:a {H264} {FLAC}",
    "long_sound.mkv": f"-t 0.7 -i source.mkv -i stereo.wav -map 0:v -map 1:a {H264} {FLAC}",
    "long_sound.mp4": f"-t 0.7 -i source.mkv -i stereo.wav -map 0:v -map 1:a {BFRAMES} {AAC}",
}
"""Where the streams start."""

PICTURES = {
    "uneven.mp4": f"{UNEVEN} {BFRAMES} {AAC}",
    "uneven.mkv": f"{UNEVEN} {FFV1} {FLAC}",
    "uneven.webm": f"{UNEVEN} {VP8} {OPUS}",
    "uneven.avi": f"{UNEVEN} {MPEG4} -c:a pcm_s16le",
    "uneven.ts": f"{UNEVEN} {BFRAMES} {AAC}",
    "uneven.flv": f"{UNEVEN} {BFRAMES} {AAC}",
    "uneven.wmv": f"{UNEVEN} -c:v wmv2 -q:v 3 -c:a wmav2",
    "uneven.gif": f"{UNEVEN} -an",
    "uneven.mpg": f"{UNEVEN} -fps_mode cfr {MPEG2} {MP2}",
    "repeats.mp4": f"-vf fps=50,fps=75 {H264} {AAC}",
    "slide_show.mp4": f"-vf select=eq(mod(n\\,20)\\,0) -fps_mode vfr {H264} {AAC}",
    "telecine.mpg": f"-vf telecine -r 30000/1001 {MPEG2} -flags +ildct {MP2}",
}
"""Pictures at uneven times."""

SMALL = "-c:v libx264 -preset ultrafast -bf 2 -g 5 -pix_fmt yuv420p"
GAPS = {
    "gap_in_sound.mp4": edited(f"{H264} {AAC}", without("audio", 0.4, 0.9)),
    "gap_in_sound.mov": edited(f"{H264} -c:a pcm_s16le", without("audio", 0.4, 0.9)),
    "gap_in_sound.mkv": edited(f"{H264} {FLAC}", without("audio", 0.4, 0.9)),
    "gap_in_sound.webm": edited(f"{VP8} {OPUS}", without("audio", 0.4, 0.9)),
    "gap_in_sound.ts": edited(f"{BFRAMES} {AAC}", without("audio", 0.4 + 1.4, 0.9 + 1.4)),
    "gap_in_sound.flv": edited(f"{H264} {AAC}", without("audio", 0.4, 0.9)),
    "gap_in_sound.mpg": edited(f"{MPEG2} {MP2}", without("audio", 0.4 + 0.5, 0.9 + 0.5)),
    "gap_in_sound.ogg": edited("-vn -c:a libopus", without("audio", 0.4, 0.9)),
    "small_gaps.mkv": edited(
        f"{H264} {FLAC}", lambda of, time, _: None if of == "audio" and time % 0.4 < 0.09 else 0.0
    ),
    "small_gaps.webm": edited(f"{VP8} {OPUS}", lambda of, time, _: None if of == "audio" and time % 0.4 > 0.3 else 0.0),
    "gap_in_pictures.mp4": edited(f"{SMALL} -bf 0 {AAC}", without("video", 0.4, 0.8)),
    "gap_in_pictures.mkv": edited(f"{FFV1} {FLAC}", without("video", 0.4, 0.9)),
    "gap_in_both.mkv": edited(f"{FFV1} {FLAC}", lambda _, time, __: None if 0.4 <= time < 0.9 else 0.0),
    "paused.mp4": edited(f"{SMALL} -bf 0 {AAC}", pause(0.8, 1.0)),
    "paused.mkv": edited(f"{SMALL} -bf 0 {FLAC}", pause(0.8, 1.0)),
    "paused.webm": edited(f"{VP8} {OPUS}", pause(0.8, 1.0)),
    "paused.ts": edited(f"{SMALL} -bf 0 {AAC}", pause(0.8 + 1.4, 1.0)),
    "paused_long.ts": edited(f"{SMALL} -bf 0 {AAC}", pause(0.8 + 1.4, 20.0)),
    "paused_long.mkv": edited(f"{SMALL} -bf 0 {FLAC}", pause(0.8, 20.0)),
    "slow_sound.mkv": edited(f"{H264} {FLAC}", drift("audio", 0.2)),
    "slow_sound.mp4": edited(f"{H264} {AAC}", drift("audio", 0.2)),
    "slow_sound.ts": edited(f"{BFRAMES} {AAC}", drift("audio", 0.05)),
    "fast_sound.mkv": edited(f"{H264} {FLAC}", drift("audio", -0.2)),
    "fast_sound.mp4": edited(f"{H264} {AAC}", drift("audio", -0.1)),
    "twice.mkv": edited(f"{FFV1} {FLAC}", lambda of, time, _: -0.04 if of == "video" and 0.5 < time < 0.55 else 0.0),
}
"""Packets that are missing, moved, or twice at one time."""

JOINS = {
    "two.mpg": halves(f"{MPEG2} -bf 2 {MP2}"),
    "two.vob": halves(f"{MPEG2} -c:a ac3 -f vob"),
    "two.ts": halves(f"{BFRAMES} {AAC}"),
    "two_mpeg2.ts": halves(f"{MPEG2} -bf 2 {MP2}"),
    "two.m2ts": halves(f"{BFRAMES} -c:a ac3 -mpegts_m2ts_mode 1"),
    "two_forward.ts": halves(f"{BFRAMES} {AAC}", f"{BFRAMES} {AAC} -output_ts_offset 30"),
    "two_forward.mpg": halves(f"{MPEG2} {MP2}", f"{MPEG2} {MP2} -output_ts_offset 30"),
    "two_back.ts": halves(f"{BFRAMES} {AAC} -output_ts_offset 500", f"{BFRAMES} {AAC}"),
    "two_back.mpg": halves(f"{MPEG2} {MP2} -output_ts_offset 500", f"{MPEG2} {MP2}"),
    "three.ts": joined(*(f"-ss {k * 0.5} -t 0.5 -i source.mkv {BFRAMES} {AAC}" for k in range(3))),
    "two.dv": halves(
        "-s 720x576 -r 25 -aspect 4:3 -t 0.2 -c:v dvvideo -pix_fmt yuv420p -c:a pcm_s16le -ac 2 -ar 48000"
    ),
}
"""Recordings that were copied one behind the other."""

PICTURE_JOINS = {
    "two.h264": halves(f"{BFRAMES} -an"),
    "two.mjpeg": halves("-c:v mjpeg -q:v 3 -pix_fmt yuvj420p -an"),
    "two.m2v": halves(f"{MPEG2} -an -f mpeg2video"),
}
SOUND_JOINS = {
    "two.mp3": halves("-vn -c:a libmp3lame"),
    "two.aac": halves("-vn -c:a aac"),
    "two.ac3": halves("-vn -c:a ac3"),
    "two_sound.ts": halves("-vn -c:a aac"),
    "two_opus.ogg": halves("-vn -c:a libopus"),
    "two_vorbis.ogg": halves("-vn -c:a libvorbis"),
}

CUTS = {
    "cut_at_0.7.mp4": copied(f"{SMALL} {AAC}", "-ss 0.7"),
    "cut_at_0.7.mov": copied(f"{SMALL} -c:a pcm_s16le", "-ss 0.7"),
    "cut_at_0.7.mkv": copied(f"{SMALL} {FLAC}", "-ss 0.7"),
}
"""Cut without encoding, from a keyframe before; MP4 and MOV say in an edit list where to start."""
ALONE = {"from_5.ogg": "a", "from_5.mka": "a", "uneven.gif": "v", "gap_in_sound.ogg": "a"}


def kinds() -> list[Kind]:
    """All of them."""
    rows = (
        *((STARTS, "va", False), (PICTURES, "va", False), (GAPS, "va", True), (JOINS, "va", True)),
        *((PICTURE_JOINS, "v", False), (SOUND_JOINS, "a", True), (CUTS, "va", False)),
    )
    return [
        Kind(name, make, ALONE.get(name, holds), joined)
        for table, holds, joined in rows
        for name, make in table.items()
    ]
