"""The matrix of media: codecs, containers, pictures and sound, each made by ffmpeg from `media_sources`.

A row is the file's name and what ffmpeg is told behind `-i source.mkv`; a row with `-i` of its own starts from that.
`media_clocks` and `media_streams` have the files whose time stamps, headers and streams are odd.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import media_reference as reference

Maker = Callable[[Path, Path], object]
"""maker(folder of the sources, file to write)."""


@dataclass(frozen=True)
class Kind:
    """One file of the matrix."""

    name: str
    make: str | Maker
    holds: str = "va"
    """v: pictures, a: sound; a letter that is missing must be missing for the reader, too."""
    joined: bool = False
    """Its sound has gaps or overlaps, whose edges need not be exact to a sample."""
    refused: str = ""
    """Words of the error that must come in the place of pictures and sound."""
    wrong: str = ""
    """What is wrong with it today; empty, as it should be, or the test expects it to fail."""
    aside: float = 0.0
    """Seconds at the start of the sound that are not compared: the two decoders' makers disagree on them."""
    colours: float = 2.0
    """Mean difference of colours, of 255, that two versions of FFmpeg may have."""

    def write(self, sources: Path, to: Path) -> Path:
        """Make the file."""
        path = to / self.name
        if callable(self.make):
            self.make(sources, path)
        else:
            reference.run(*words(self.make), str(path), folder=sources)
        return path


def words(command: str) -> list[str]:
    """ffmpeg's arguments, with the input that is understood."""
    return [*([] if "-i " in command else ["-i", "source.mkv"]), *command.split()]


H264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"
BFRAMES = f"{H264} -bf 2 -g 12"
HEVC = "-c:v libx265 -preset ultrafast -x265-params log-level=error:pools=none -pix_fmt yuv420p"
VP8 = "-c:v libvpx -deadline realtime -cpu-used 8 -b:v 400k"
VP9 = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -b:v 400k"
AV1 = "-c:v libaom-av1 -usage realtime -cpu-used 8 -b:v 300k -pix_fmt yuv420p"
MPEG2 = "-c:v mpeg2video -q:v 3"
MPEG4 = "-c:v mpeg4 -q:v 3"
MJPEG = "-c:v mjpeg -q:v 3 -pix_fmt yuvj420p"
FFV1 = "-c:v ffv1"
PAL = "-t 0.4 -s 720x576 -aspect 4:3 -r 25"

BOTH = {
    "h264.mp4": f"{H264} -c:a aac",
    "h264_b_frames.mp4": f"{BFRAMES} -c:a aac",
    "h264_b_frames.mov": f"{BFRAMES} -c:a pcm_s16le",
    "h264_b_frames.mkv": f"{BFRAMES} -c:a aac",
    "h264_b_frames.flv": f"{BFRAMES} -c:a aac",
    "h264_b_frames.ts": f"{BFRAMES} -c:a aac",
    "h264_b_frames.avi": f"{BFRAMES} -c:a libmp3lame",
    "h264_open_gop.mkv": f"{BFRAMES} -x264-params open-gop=1:bframes=3:b-pyramid=normal -c:a flac",
    "h264_fragmented.mp4": f"{BFRAMES} -c:a aac -movflags frag_keyframe+empty_moov+default_base_moof",
    "h264_fragmented_later.mp4": f"{BFRAMES} -c:a aac -movflags frag_keyframe+delay_moov",
    "h264_faststart.mp4": f"{BFRAMES} -c:a aac -movflags faststart",
    "h264_negative_cts.mp4": f"{BFRAMES} -c:a aac -movflags negative_cts_offsets",
    "h264_no_edit_list.mp4": f"{BFRAMES} -c:a aac -use_editlist 0",
    "h264_whole_size.m2ts": f"{BFRAMES} -c:a ac3 -mpegts_m2ts_mode 1",
    "h264_low_delay.3gp": f"{H264} -c:a aac -ar 16000 -ac 1",
    "hevc.mp4": f"{HEVC} -c:a aac -tag:v hvc1",
    "hevc.mkv": f"{HEVC} -c:a libopus",
    "hevc.ts": f"{HEVC} -c:a eac3",
    "vp8.webm": f"{VP8} -c:a libvorbis",
    "vp9.webm": f"{VP9} -c:a libopus",
    "vp9.mp4": f"{VP9} -c:a libopus",
    "vp8_hidden_frames.webm": f"{VP8} -auto-alt-ref 1 -lag-in-frames 8 -deadline good -c:a libopus",
    "av1.webm": f"{AV1} -c:a libopus",
    "av1.mp4": f"{AV1} -c:a aac",
    "mpeg1.mpg": "-c:v mpeg1video -q:v 3 -c:a mp2",
    "mpeg2.vob": f"{MPEG2} -bf 2 -c:a ac3 -f vob",
    "mpeg2.mpg": f"{MPEG2} -bf 2 -c:a mp2 -f dvd",
    "mpeg2.ts": f"{MPEG2} -bf 2 -c:a mp2",
    "mpeg2.mov": f"{MPEG2} -c:a pcm_s16be",
    "mpeg4.avi": f"{MPEG4} -vtag XVID -c:a libmp3lame",
    "mpeg4_b_frames.avi": f"{MPEG4} -bf 2 -c:a libmp3lame",
    "mpeg4.mp4": f"{MPEG4} -c:a libmp3lame",
    "mjpeg.avi": f"{MJPEG} -c:a pcm_s16le",
    "mjpeg.mov": f"{MJPEG} -c:a pcm_s24le",
    "mjpeg.mkv": f"{MJPEG} -c:a pcm_f32le",
    "motion_png.mov": "-c:v png -pix_fmt rgb24 -c:a alac",
    "animation.mov": "-c:v qtrle -pix_fmt rgb24 -c:a pcm_s16be",
    "prores.mov": "-c:v prores_ks -profile:v 0 -c:a pcm_s24le",
    "prores_alpha.mov": "-c:v prores_ks -pix_fmt yuva444p10le -c:a pcm_s16le",
    "dnxhd.mov": "-c:v dnxhd -s 256x144 -profile:v dnxhr_lb -pix_fmt yuv422p -c:a pcm_s16le",
    "jpeg2000.mov": "-c:v jpeg2000 -pix_fmt yuv420p -c:a pcm_s16le",
    "ffv1.mkv": f"{FFV1} -pix_fmt yuv444p -c:a flac",
    "huffyuv.avi": "-c:v huffyuv -pix_fmt yuv422p -c:a pcm_s16le",
    "raw.avi": "-c:v rawvideo -pix_fmt bgr24 -c:a pcm_s16le",
    "raw.mkv": "-c:v rawvideo -pix_fmt yuv420p -c:a pcm_s16le",
    "raw.nut": "-c:v rawvideo -pix_fmt yuv420p -c:a pcm_s16le",
    "theora.ogv": "-c:v libtheora -q:v 7 -c:a libvorbis",
    "theora_flac.ogv": "-c:v libtheora -q:v 7 -c:a flac",
    "dv.avi": f"{PAL} -c:v dvvideo -pix_fmt yuv420p -c:a pcm_s16le -ac 2",
    "dv.mov": f"{PAL} -c:v dvvideo -pix_fmt yuv420p -c:a pcm_s16le -ac 2",
    "dv.dv": f"{PAL} -c:v dvvideo -pix_fmt yuv420p -c:a pcm_s16le -ac 2 -ar 48000",
    "mpeg2.mxf": f"{MPEG2} -s 720x576 -t 0.4 -c:a pcm_s16le",
    "msmpeg4.avi": "-c:v msmpeg4 -q:v 3 -c:a wmav2",
    "wmv2.wmv": "-c:v wmv2 -q:v 3 -c:a wmav2",
    "wmv1.asf": "-c:v wmv1 -q:v 3 -c:a wmav1",
    "flv1.flv": "-c:v flv -q:v 3 -c:a libmp3lame -ar 44100",
    "screen.flv": "-c:v flashsv -pix_fmt bgr24 -c:a adpcm_swf -ar 22050 -ac 1",
    "h263.3gp": "-c:v h263 -s 176x144 -q:v 3 -c:a aac",
    "rv10.rm": "-c:v rv10 -s 176x144 -q:v 3 -c:a ac3",
    "cinepak.avi": "-c:v cinepak -pix_fmt rgb24 -t 0.4 -c:a pcm_u8",
}
"""Codecs and containers of pictures with sound."""

PICTURES = {
    "y4m.y4m": "-pix_fmt yuv420p",
    "palette.gif": "",
    "h264.h264": f"{H264}",
    "h264_b_frames.h264": f"{BFRAMES}",
    "h264_50_fps.h264": f"-r 50 {H264}",
    "h264_15_fps.h264": f"-r 15 {H264}",
    "hevc.hevc": f"{HEVC}",
    "mpeg1.m1v": "-c:v mpeg1video -q:v 3 -f mpeg1video",
    "mpeg2.m2v": f"{MPEG2} -f mpeg2video",
    "mpeg4.m4v": f"{MPEG4} -f m4v",
    "mjpeg.mjpeg": f"{MJPEG}",
    "vp8.ivf": f"{VP8}",
    "av1.ivf": f"{AV1}",
    "av1.obu": f"{AV1}",
    "yuv422p.mkv": f"{FFV1} -pix_fmt yuv422p",
    "yuv410p.mkv": f"{FFV1} -pix_fmt yuv410p",
    "yuv420p10.mkv": f"{FFV1} -pix_fmt yuv420p10le",
    "yuv444p16.mkv": f"{FFV1} -pix_fmt yuv444p16le",
    "h264_10_bit.mp4": f"{H264} -pix_fmt yuv420p10le",
    "h264_422.mp4": f"{H264} -pix_fmt yuv422p",
    "h264_444.mp4": f"{H264} -pix_fmt yuv444p",
    "h264_rgb.mkv": "-c:v libx264rgb -preset ultrafast -pix_fmt rgb24",
    "h264_grey.mp4": f"{H264} -pix_fmt gray",
    "hevc_10_bit.mp4": f"{HEVC} -pix_fmt yuv420p10le",
    "vp9_444.webm": f"{VP9} -pix_fmt yuv444p -profile:v 1",
    "vp9_alpha.webm": "-vf format=yuva420p,colorchannelmixer=aa=0.5 -c:v libvpx-vp9 -deadline realtime -cpu-used 8",
    "grey.mkv": f"{FFV1} -pix_fmt gray",
    "grey16.mkv": f"{FFV1} -pix_fmt gray16le",
    "grey10.mkv": f"{FFV1} -pix_fmt gray10le",
    "rgb24.mkv": f"{FFV1} -pix_fmt bgr0",
    "rgb48.mkv": f"{FFV1} -pix_fmt rgb48le",
    "rgba.mov": "-vf format=rgba,colorchannelmixer=aa=0.5 -c:v png",
    "black_and_white.mov": "-c:v png -pix_fmt monob",
    "grey.mov": "-c:v png -pix_fmt gray",
    "palette.mov": "-vf split[a][b];[a]palettegen[p];[b][p]paletteuse -c:v png -pix_fmt pal8",
    "palette.avi": "-vf split[a][b];[a]palettegen[p];[b][p]paletteuse -c:v rawvideo -pix_fmt pal8",
    "rgb555.avi": "-c:v rawvideo -pix_fmt rgb555le",
    "rgb565.avi": "-c:v rawvideo -pix_fmt rgb565le",
    "yuyv.avi": "-c:v rawvideo -pix_fmt yuyv422",
    "uyvy.mov": "-c:v rawvideo -pix_fmt uyvy422",
    "full_range.mp4": f"-vf scale=out_range=full {H264} -color_range pc",
    "limited_range.mp4": f"-vf scale=out_range=limited {H264} -color_range tv",
    "bt709.mp4": f"-vf scale=out_color_matrix=bt709 {H264} -colorspace bt709 -color_primaries bt709 -color_trc bt709",
    "bt601.mp4": f"-vf scale=out_color_matrix=bt601 {H264} -colorspace smpte170m",
    "bt2020.mp4": f"-vf scale=out_color_matrix=bt2020 {HEVC} -pix_fmt yuv420p10le -colorspace bt2020nc",
    "bt709_full.mkv": f"-vf scale=out_color_matrix=bt709:out_range=full {FFV1} -pix_fmt yuv444p -colorspace bt709 -color_range pc",
    "full_range.mkv": f"-vf scale=out_range=full {FFV1} -pix_fmt yuv420p -color_range pc",
    "odd_sides.mkv": f"-vf scale=97:65 {FFV1} -pix_fmt yuv444p",
    "odd_sides_420.mkv": f"-vf scale=97:65 {FFV1} -pix_fmt yuv420p",
    "odd_sides.mp4": f"-vf scale=97:65 {MPEG4}",
    "odd_sides.webm": f"-vf scale=97:65 {VP9}",
    "odd_sides.gif": "-vf scale=97:65",
    "tall.mp4": f"-vf scale=16:240 {H264}",
    "broad.mp4": f"-vf scale=400:16 {H264}",
    "cropped_by_header.mp4": f"-vf scale=90:62 {H264}",
    "interlaced.mpg": f"{MPEG2} -flags +ildct+ilme -top 1",
    "interlaced.mp4": f"{H264} -x264-params tff=1",
    "interlaced_fields.mkv": f"{FFV1} -pix_fmt yuv420p -field_order tb",
    "film_30000_1001.mp4": f"-r 30000/1001 {H264}",
    "film_24000_1001.mkv": f"-r 24000/1001 {H264}",
    "one_per_second.mp4": f"-r 1 {H264}",
    "120_fps.mp4": f"-t 0.5 -r 120 {H264}",
    "240_fps.mkv": f"-t 0.3 -r 240 {H264}",
    "one_picture.mp4": f"-frames:v 1 {H264}",
    "one_picture.mkv": f"-frames:v 1 {H264}",
    "two_pictures.webm": f"-frames:v 2 {VP9}",
    "aspect_16_15.mp4": f"-vf setsar=16/15 {H264}",
    "aspect_half.mp4": f"-vf setsar=1/2 {H264}",
    "aspect_two.mkv": f"-vf setsar=2/1 {H264}",
    "aspect_16_9.mpg": f"-vf scale=96:72 -aspect 16:9 {MPEG2}",
    "aspect_rounding.mp4": f"-vf setsar=1000/1001 {H264}",
    "aspect_unknown.mp4": f"-vf setsar=0/1 {H264}",
    "aspect_one.mp4": f"-vf setsar=1/1 {H264}",
    "aspect_container.mkv": f"-aspect 2:1 {VP8}",
    "aspect_container.mov": f"-aspect 3:1 {MJPEG}",
    "aspect_pal.mpg": f"{PAL} {MPEG2}",
    "aspect_anamorphic.dv": f"{PAL} -aspect 16:9 -c:v dvvideo -pix_fmt yuv420p -an",
}
"""Pictures alone."""

SOUNDS = {
    "aac.m4a": "-c:a aac",
    "aac.aac": "-c:a aac",
    "aac_8000.m4a": "-c:a aac -ar 8000 -ac 1",
    "aac_96000.m4a": "-c:a aac -ar 96000",
    "mp3.mp3": "-c:a libmp3lame",
    "mp3_no_gapless.mp3": "-c:a libmp3lame -write_xing 0",
    "mp3_variable.mp3": "-c:a libmp3lame -q:a 6",
    "mp3_variable_no_header.mp3": "-i loud.wav -c:a libmp3lame -q:a 6 -write_xing 0 -id3v2_version 0",
    "aac_variable.aac": "-i loud.wav -c:a aac -q:a 1",
    "mp3_16000.mp3": "-c:a libmp3lame -ar 16000 -ac 1",
    "mp3.wav": "-c:a libmp3lame -f wav",
    "mp2.mp2": "-c:a mp2 -f mp2",
    "opus.ogg": "-c:a libopus",
    "opus.opus": "-c:a libopus -ac 1 -frame_duration 60",
    "opus.webm": "-c:a libopus",
    "opus.mka": "-c:a libopus",
    "vorbis.ogg": "-c:a libvorbis",
    "vorbis.webm": "-c:a libvorbis",
    "speex.ogg": "-c:a libspeex -ar 16000 -ac 1",
    "flac.flac": "-c:a flac",
    "flac.ogg": "-c:a flac",
    "flac_24.flac": "-c:a flac -sample_fmt s32",
    "alac.m4a": "-c:a alac",
    "alac.caf": "-c:a alac",
    "pcm_u8.wav": "-c:a pcm_u8",
    "pcm_s16.wav": "-c:a pcm_s16le",
    "pcm_s24.wav": "-c:a pcm_s24le",
    "pcm_s32.wav": "-c:a pcm_s32le",
    "pcm_f32.wav": "-c:a pcm_f32le",
    "pcm_f64.wav": "-c:a pcm_f64le",
    "alaw.wav": "-c:a pcm_alaw",
    "mulaw.wav": "-c:a pcm_mulaw",
    "mulaw.au": "-c:a pcm_mulaw",
    "adpcm_ms.wav": "-c:a adpcm_ms",
    "adpcm_ima.wav": "-c:a adpcm_ima_wav",
    "gsm.wav": "-c:a libgsm_ms -ar 8000 -ac 1",
    "g726.wav": "-c:a g726 -ar 8000 -ac 1",
    "broadcast.wav": "-c:a pcm_s24le -write_bext 1",
    "listed.wav": "-c:a pcm_s16le -metadata title=a -metadata artist=b",
    "rf64.wav": "-c:a pcm_s16le -rf64 always",
    "pcm.w64": "-c:a pcm_s16le",
    "pcm.aiff": "-c:a pcm_s16be",
    "sowt.aiff": "-c:a pcm_s16le -f aiff",
    "pcm.caf": "-c:a pcm_s24be",
    "pcm.au": "-c:a pcm_s16be",
    "ac3.ac3": "-c:a ac3",
    "eac3.eac3": "-c:a eac3",
    "ac3.m4a": "-c:a ac3 -f mp4",
    "wma2.wma": "-c:a wmav2",
    "wma1.wma": "-c:a wmav1",
    "wavpack.mka": "-c:a wavpack",
    "tta.mka": "-c:a tta",
    "dts.mka": "-c:a dca -strict -2 -ar 48000",
    "truehd.mka": "-c:a truehd -strict -2",
    "pcm_s16.mka": "-c:a pcm_s16le",
    "pcm_bluray.m2ts": "-c:a pcm_bluray -f mpegts -mpegts_m2ts_mode 1",
    "pcm_dvd.vob": "-c:a pcm_dvd -f vob",
    "sound.avi": "-c:a pcm_s16le",
    "sound.flv": "-c:a aac",
    "sound.ts": "-c:a aac",
    "latm.ts": "-c:a aac -mpegts_flags latm",
    "sound.mov": "-c:a pcm_s16le",
    "sound_fragmented.mp4": "-c:a aac -movflags frag_keyframe+empty_moov",
    "mono.wav": "-i mono.wav -c:a pcm_s16le",
    "right.wav": "-i right.wav -c:a pcm_s16le",
    "left.flac": "-i left.wav -c:a flac",
    "three.wav": "-i three.wav -c:a pcm_s16le",
    "six.wav": "-i six.wav -c:a pcm_s16le",
    "six.flac": "-i six.wav -c:a flac",
    "six.m4a": "-i six.wav -c:a aac",
    "six.ac3": "-i six.wav -c:a ac3",
    "six.ogg": "-i six.wav -c:a libvorbis",
    "six.opus": "-i six.wav -c:a libopus",
    "eight.wav": "-i eight.wav -c:a pcm_s16le",
    "eight.flac": "-i eight.wav -c:a flac",
    "eight.m4a": "-i eight.wav -c:a aac",
    "rate_8000.wav": "-ar 8000 -c:a pcm_s16le",
    "rate_11025.wav": "-ar 11025 -c:a pcm_s16le",
    "rate_22050.flac": "-ar 22050 -c:a flac",
    "rate_32000.mp3": "-ar 32000 -c:a libmp3lame",
    "rate_44100.m4a": "-ar 44100 -c:a aac",
    "rate_96000.flac": "-ar 96000 -c:a flac",
    "rate_192000.wav": "-ar 192000 -c:a pcm_s24le",
}
"""Sound alone."""

ASIDE: dict[str, float] = {}
"""Sound whose start two versions of FFmpeg decode unlike."""


def plain() -> Iterator[Kind]:
    """The kinds without oddities."""
    for holds, table in (("va", BOTH), ("v", PICTURES), ("a", SOUNDS)):
        for name, command in table.items():
            rest = {"v": " -an", "a": " -vn"}.get(holds, "") if "-i " not in command else ""
            yield Kind(name, command + rest, holds, aside=ASIDE.get(name, 0.0))
