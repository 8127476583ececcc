"""Whose right is right? What a tracker means, learnt from how the camera moved. No I/O and no clock: the same for a take.

    Datagram → readings    numbers of the wire as they are, nobody's axes yet
             → motions     when the camera stood still, and what every number did between two stillnesses
             → translation which numbers are right, forward and up, in which unit, left-handed or not
             → rotation    quaternion or angles, their order and signs, where the sender's world and the tracked body are turned
             → lens        what zoom and focus are
             → mapping     all this as keys of the show file
             → proof       the same datagrams, decoded by that mapping: did the camera go where it was sent?

`session` asks for one motion after the other and says what it saw; `show_edit` writes into the show file. What the motions
do not say is a MotionError that names the motions to do again: nothing is guessed.
"""
