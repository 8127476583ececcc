"""Finds out where every LED pixel is, how the tracker relates to the stage, where the lens' entrance pupil sits, how late it all is.

ledvolume calibrate patterns SHOW …     the wall shows coded pictures
ledvolume calibrate capture …           photographs of them, each with the tracker's sample: which view is next, and why
ledvolume calibrate detect FOLDER       LED pixel ↔ picture point
ledvolume calibrate solve FOLDER …      wall, rig and lens, in millimetres, with their uncertainty → a show for `serve`
ledvolume calibrate report FOLDER       a page with pictures, and a verdict in words
"""

# name: module, one line of help
COMMANDS = {
    "patterns": ("calibration.commands.patterns", "show coded patterns on the wall, or write them as pictures"),
    "capture": ("calibration.commands.capture", "take pictures, guided: a folder that fills, a camera, a video"),
    "detect": ("calibration.commands.detect", "find LED pixels in photographs"),
    "solve": ("calibration.commands.solve", "solve wall, tracker, hand-eye and lens, and write a show"),
    "report": ("calibration.commands.report", "one page: residuals, uncertainty, coverage, what to do next"),
    "bump": ("calibration.commands.bump", "has anything moved since? one picture tells"),
    "lens": ("calibration.commands.lens", "a lens table from photographs of a board"),
    "latency": ("calibration.commands.latency", "how late the chain is, from video of flashes on the wall"),
    "import": ("calibration.commands.import_wall", "wall geometry from MPCDI, nDisplay, OBJ, FBX, OpenVPCal, USD"),
    "export": ("calibration.commands.export_wall", "wall geometry to MPCDI, nDisplay, OBJ, OpenVPCal, USD"),
    "simulate": ("calibration.commands.simulate", "photograph a virtual stage through the real renderer"),
}
