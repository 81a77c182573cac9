/* Sizes and offsets of the structs that skproxy exchanges with SDF and SKF libraries, as a C compiler
 * sees them. Written from the definitions of GM/T 0018-2012 section 5 and GM/T 0016-2012 section 6.
 *
 *   layout sdf    natural and packed
 *   layout skf    natural, packed, and with an ULONG of 64 bits, natural and packed
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define SIZE(type) printf("%s " #type " %zu\n", packing, sizeof(type))
#define FIELD(type, field) printf("%s " #type "." #field " %zu\n", packing, offsetof(type, field))

#define SDF_STRUCTS                                                                                  \
    typedef struct {                                                                                 \
        unsigned char IssuerName[40];                                                                \
        unsigned char DeviceName[16];                                                                \
        unsigned char DeviceSerial[16];                                                              \
        unsigned int DeviceVersion;                                                                  \
        unsigned int StandardVersion;                                                                \
        unsigned int AsymAlgAbility[2];                                                              \
        unsigned int SymAlgAbility;                                                                  \
        unsigned int HashAlgAbility;                                                                 \
        unsigned int BufferSize;                                                                     \
    } DEVICEINFO;                                                                                    \
    typedef struct {                                                                                 \
        unsigned int bits;                                                                           \
        unsigned char x[64];                                                                         \
        unsigned char y[64];                                                                         \
    } ECCrefPublicKey;                                                                               \
    typedef struct {                                                                                 \
        unsigned char r[64];                                                                         \
        unsigned char s[64];                                                                         \
    } ECCSignature;

#define SDF_PRINT                                                                                    \
    SIZE(DEVICEINFO);                                                                                \
    FIELD(DEVICEINFO, IssuerName);                                                                   \
    FIELD(DEVICEINFO, DeviceName);                                                                   \
    FIELD(DEVICEINFO, DeviceSerial);                                                                 \
    FIELD(DEVICEINFO, DeviceVersion);                                                                \
    FIELD(DEVICEINFO, StandardVersion);                                                              \
    FIELD(DEVICEINFO, AsymAlgAbility);                                                               \
    FIELD(DEVICEINFO, SymAlgAbility);                                                                \
    FIELD(DEVICEINFO, HashAlgAbility);                                                               \
    FIELD(DEVICEINFO, BufferSize);                                                                   \
    SIZE(ECCrefPublicKey);                                                                           \
    FIELD(ECCrefPublicKey, bits);                                                                    \
    FIELD(ECCrefPublicKey, x);                                                                       \
    FIELD(ECCrefPublicKey, y);                                                                       \
    SIZE(ECCSignature);                                                                              \
    FIELD(ECCSignature, r);                                                                          \
    FIELD(ECCSignature, s)

#define SKF_STRUCTS(ULONG)                                                                           \
    typedef struct {                                                                                 \
        uint8_t major;                                                                               \
        uint8_t minor;                                                                               \
    } VERSION;                                                                                       \
    typedef struct {                                                                                 \
        VERSION Version;                                                                             \
        char Manufacturer[64];                                                                       \
        char Issuer[64];                                                                             \
        char Label[32];                                                                              \
        char SerialNumber[32];                                                                       \
        VERSION HWVersion;                                                                           \
        VERSION FirmwareVersion;                                                                     \
        ULONG AlgSymCap;                                                                             \
        ULONG AlgAsymCap;                                                                            \
        ULONG AlgHashCap;                                                                            \
        ULONG DevAuthAlgId;                                                                          \
        ULONG TotalSpace;                                                                            \
        ULONG FreeSpace;                                                                             \
        ULONG MaxECCBufferSize;                                                                      \
        ULONG MaxBufferSize;                                                                         \
        uint8_t Reserved[64];                                                                        \
    } DEVINFO;                                                                                       \
    typedef struct {                                                                                 \
        ULONG BitLen;                                                                                \
        uint8_t XCoordinate[64];                                                                     \
        uint8_t YCoordinate[64];                                                                     \
    } ECCPUBLICKEYBLOB;                                                                              \
    typedef struct {                                                                                 \
        uint8_t r[64];                                                                               \
        uint8_t s[64];                                                                               \
    } ECCSIGNATUREBLOB;

#define SKF_PRINT                                                                                    \
    SIZE(DEVINFO);                                                                                   \
    FIELD(DEVINFO, Label);                                                                           \
    FIELD(DEVINFO, SerialNumber);                                                                    \
    SIZE(ECCPUBLICKEYBLOB);                                                                          \
    FIELD(ECCPUBLICKEYBLOB, BitLen);                                                                 \
    FIELD(ECCPUBLICKEYBLOB, XCoordinate);                                                            \
    FIELD(ECCPUBLICKEYBLOB, YCoordinate);                                                            \
    SIZE(ECCSIGNATUREBLOB);                                                                          \
    FIELD(ECCSIGNATUREBLOB, r);                                                                      \
    FIELD(ECCSIGNATUREBLOB, s)

static void sdf_natural(const char *packing) {
    SDF_STRUCTS
    SDF_PRINT;
}

static void skf_natural(const char *packing) {
    SKF_STRUCTS(uint32_t)
    SKF_PRINT;
}

static void skf_natural_64(const char *packing) {
    SKF_STRUCTS(uint64_t)
    SKF_PRINT;
}

#pragma pack(push, 1)
static void sdf_packed(const char *packing) {
    SDF_STRUCTS
    SDF_PRINT;
}

static void skf_packed(const char *packing) {
    SKF_STRUCTS(uint32_t)
    SKF_PRINT;
}

static void skf_packed_64(const char *packing) {
    SKF_STRUCTS(uint64_t)
    SKF_PRINT;
}
#pragma pack(pop)

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "sdf") == 0) {
        sdf_natural("natural");
        sdf_packed("packed");
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "skf") == 0) {
        skf_natural("natural");
        skf_packed("packed");
        skf_natural_64("natural-64");
        skf_packed_64("packed-64");
        return 0;
    }
    return 2;
}
