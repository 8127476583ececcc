// sRGB's transfer function (IEC 61966-2-1). Twin: ledvolume/colour.py.

vec3 linear_from_srgb(vec3 v) {
    return mix(v / 12.92, pow((v + 0.055) / 1.055, vec3(2.4)), greaterThan(v, vec3(0.04045)));
}

vec3 srgb_from_linear(vec3 v) {
    return mix(v * 12.92, 1.055 * pow(v, vec3(1.0 / 2.4)) - 0.055, greaterThan(v, vec3(0.0031308)));
}
