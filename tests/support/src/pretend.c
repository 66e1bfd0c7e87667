/* A camera that is not there, for the tests of v4l2:// inputs: preloaded, it answers the calls of the V4L2 interface
 * (linux/videodev2.h) at the path in PRETEND_DEVICE as a common USB camera would.
 *
 *   YUYV  640x480 at 30 and 15 frames/s, 1280x720 at 10
 *   MJPEG 640x480 at 30, 1280x720 at 30 and 15; each picture is the file in PRETEND_JPEG
 *
 * The path must be a link to a character device, such as /dev/null; without the link the camera is unplugged. The file in
 * PRETEND_FAILS, when it is there, names a call, `open` or `format`, and the number of the error that it gives; `pictures 1`
 * makes it the device of a camera's other data.
 *
 * In C, for `open` and `ioctl` take a variable number of arguments, and stable Rust cannot define such functions. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { BUFFERS = 8, DESCRIPTORS = 8 };

struct mode {
    uint32_t format, width, height, fps;
};

static const struct mode MODES[] = {
    {V4L2_PIX_FMT_YUYV, 640, 480, 30},   {V4L2_PIX_FMT_YUYV, 640, 480, 15},   {V4L2_PIX_FMT_YUYV, 1280, 720, 10},
    {V4L2_PIX_FMT_MJPEG, 640, 480, 30},  {V4L2_PIX_FMT_MJPEG, 1280, 720, 30}, {V4L2_PIX_FMT_MJPEG, 1280, 720, 15},
};
static const size_t MODE_COUNT = sizeof MODES / sizeof MODES[0];

static struct {
    int fds[DESCRIPTORS]; /* of one timer that is ready when a picture is; GStreamer makes duplicates */
    int open;
    struct mode mode;
    uint32_t buffers, size, pictures;
    int memory[BUFFERS];
    uint8_t *data[BUFFERS];
    uint32_t queue[BUFFERS], head, waiting; /* a ring of buffers that may be filled */
} camera;

static int fail(int error) {
    errno = error;
    return -1;
}

/* Where a descriptor of the camera stands in `fds`; -1 for any other. */
static int place_of(int fd) {
    for (int i = 0; i < camera.open; i++) {
        if (camera.fds[i] == fd) {
            return i;
        }
    }
    return -1;
}

/* The error that a call is to give; 0 for none. */
static int trouble(const char *call) {
    const char *path = getenv("PRETEND_FAILS");
    FILE *file = path ? fopen(path, "r") : NULL;
    char name[16] = "";
    int error = 0;
    if (file) {
        error = fscanf(file, "%15s %d", name, &error) == 2 && strcmp(name, call) == 0 ? error : 0;
        fclose(file);
    }
    return error;
}

static int plugged_in(void) {
    const char *path = getenv("PRETEND_DEVICE");
    return path && access(path, F_OK) == 0;
}

/* The first mode of a format and size, else of the format, else of all. */
static const struct mode *find(uint32_t format, uint32_t width, uint32_t height) {
    const struct mode *near = NULL;
    for (size_t i = 0; i < MODE_COUNT; i++) {
        const struct mode *mode = &MODES[i];
        if (mode->format == format && mode->width == width && mode->height == height) {
            return mode;
        }
        if (mode->format == format && !near) {
            near = mode;
        }
    }
    return near ? near : &MODES[0];
}

static void describe(struct v4l2_pix_format *pix, const struct mode *mode) {
    int raw = mode->format == V4L2_PIX_FMT_YUYV;
    pix->width = mode->width;
    pix->height = mode->height;
    pix->pixelformat = mode->format;
    pix->field = V4L2_FIELD_NONE;
    pix->bytesperline = raw ? 2 * mode->width : 0;
    pix->sizeimage = 2 * mode->width * mode->height;
    pix->colorspace = V4L2_COLORSPACE_SRGB;
}

static int enumerate_sizes(struct v4l2_frmsizeenum *sizes) {
    uint32_t index = 0;
    for (size_t i = 0; i < MODE_COUNT; i++) {
        int first = find(MODES[i].format, MODES[i].width, MODES[i].height) == &MODES[i];
        if (MODES[i].format == sizes->pixel_format && first && index++ == sizes->index) {
            sizes->type = V4L2_FRMSIZE_TYPE_DISCRETE;
            sizes->discrete.width = MODES[i].width;
            sizes->discrete.height = MODES[i].height;
            return 0;
        }
    }
    return fail(EINVAL);
}

static int enumerate_rates(struct v4l2_frmivalenum *rates) {
    uint32_t index = 0;
    for (size_t i = 0; i < MODE_COUNT; i++) {
        const struct mode *mode = &MODES[i];
        int same = mode->format == rates->pixel_format && mode->width == rates->width && mode->height == rates->height;
        if (same && index++ == rates->index) {
            rates->type = V4L2_FRMIVAL_TYPE_DISCRETE;
            rates->discrete.numerator = 1;
            rates->discrete.denominator = mode->fps;
            return 0;
        }
    }
    return fail(EINVAL);
}

static void parameters(struct v4l2_streamparm *parameters, int set) {
    struct v4l2_captureparm *capture = &parameters->parm.capture;
    if (set && capture->timeperframe.numerator > 0) {
        uint32_t fps = capture->timeperframe.denominator / capture->timeperframe.numerator;
        for (size_t i = 0; i < MODE_COUNT; i++) {
            const struct mode *mode = &MODES[i];
            int same = mode->format == camera.mode.format && mode->width == camera.mode.width &&
                       mode->height == camera.mode.height;
            if (same && mode->fps == fps) {
                camera.mode.fps = fps;
            }
        }
    }
    capture->capability = V4L2_CAP_TIMEPERFRAME;
    capture->timeperframe.numerator = 1;
    capture->timeperframe.denominator = camera.mode.fps;
}

static void release(void) {
    for (uint32_t i = 0; i < camera.buffers; i++) {
        munmap(camera.data[i], camera.size);
        close(camera.memory[i]);
    }
    camera.buffers = camera.waiting = 0;
}

static int request(struct v4l2_requestbuffers *wanted) {
    if (wanted->memory != V4L2_MEMORY_MMAP) {
        return fail(EINVAL);
    }
    release();
    wanted->count = wanted->count < BUFFERS ? wanted->count : BUFFERS;
    wanted->capabilities = V4L2_BUF_CAP_SUPPORTS_MMAP;
    camera.size = 2 * camera.mode.width * camera.mode.height;
    for (uint32_t i = 0; i < wanted->count; i++) {
        camera.memory[i] = memfd_create("picture", 0);
        if (camera.memory[i] < 0 || ftruncate(camera.memory[i], camera.size) < 0) {
            return -1;
        }
        camera.data[i] = mmap(NULL, camera.size, PROT_READ | PROT_WRITE, MAP_SHARED, camera.memory[i], 0);
        camera.buffers++;
    }
    return 0;
}

static int query(struct v4l2_buffer *buffer) {
    if (buffer->index >= camera.buffers) {
        return fail(EINVAL);
    }
    buffer->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    buffer->length = camera.size;
    buffer->m.offset = buffer->index * camera.size;
    return 0;
}

static int enqueue(struct v4l2_buffer *buffer) {
    if (buffer->index >= camera.buffers || camera.waiting == BUFFERS) {
        return fail(EINVAL);
    }
    camera.queue[(camera.head + camera.waiting++) % BUFFERS] = buffer->index;
    buffer->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC | V4L2_BUF_FLAG_QUEUED;
    return 0;
}

/* Fills a buffer; the bytes in it. */
static uint32_t picture(uint8_t *data) {
    const struct mode *mode = &camera.mode;
    if (mode->format == V4L2_PIX_FMT_MJPEG) {
        FILE *file = fopen(getenv("PRETEND_JPEG"), "rb");
        uint32_t size = file ? (uint32_t)fread(data, 1, camera.size, file) : 0;
        if (file) {
            fclose(file);
        }
        return size;
    }
    for (uint32_t i = 0; i < mode->width * mode->height; i++) {
        data[2 * i] = (uint8_t)(i % mode->width + 4 * camera.pictures);
        data[2 * i + 1] = 128;
    }
    return camera.size;
}

static int dequeue(struct v4l2_buffer *buffer) {
    uint64_t due;
    if (!plugged_in()) {
        return fail(ENODEV);
    }
    if (camera.waiting == 0 || read(camera.fds[0], &due, sizeof due) < 0) {
        return fail(EAGAIN);
    }
    uint32_t index = camera.queue[camera.head];
    camera.head = (camera.head + 1) % BUFFERS;
    camera.waiting--;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    buffer->index = index;
    buffer->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC | V4L2_BUF_FLAG_DONE;
    buffer->field = V4L2_FIELD_NONE;
    buffer->sequence = camera.pictures++;
    buffer->timestamp.tv_sec = now.tv_sec;
    buffer->timestamp.tv_usec = now.tv_nsec / 1000;
    buffer->length = camera.size;
    buffer->bytesused = picture(camera.data[index]);
    return 0;
}

static int stream(long interval_ns) {
    struct itimerspec times = {.it_interval.tv_nsec = interval_ns, .it_value.tv_nsec = interval_ns};
    camera.waiting = interval_ns ? camera.waiting : 0;
    return timerfd_settime(camera.fds[0], 0, &times, NULL);
}

static int answer(unsigned long what, void *with) {
    switch (what) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *capability = with;
        memset(capability, 0, sizeof *capability);
        strcpy((char *)capability->driver, "pretend");
        strcpy((char *)capability->card, "Pretended camera");
        strcpy((char *)capability->bus_info, "usb-pretend-1");
        capability->version = 6 << 16;
        capability->device_caps =
            V4L2_CAP_STREAMING | (trouble("pictures") ? V4L2_CAP_META_CAPTURE : V4L2_CAP_VIDEO_CAPTURE);
        capability->capabilities = capability->device_caps | V4L2_CAP_DEVICE_CAPS;
        return 0;
    }
    case VIDIOC_ENUM_FMT: {
        struct v4l2_fmtdesc *format = with;
        if (format->index > 1) {
            return fail(EINVAL);
        }
        format->flags = format->index ? V4L2_FMT_FLAG_COMPRESSED : 0;
        format->pixelformat = format->index ? V4L2_PIX_FMT_MJPEG : V4L2_PIX_FMT_YUYV;
        strcpy((char *)format->description, format->index ? "Motion-JPEG" : "YUYV 4:2:2");
        return 0;
    }
    case VIDIOC_ENUM_FRAMESIZES:
        return enumerate_sizes(with);
    case VIDIOC_ENUM_FRAMEINTERVALS:
        return enumerate_rates(with);
    case VIDIOC_G_FMT:
    case VIDIOC_TRY_FMT:
    case VIDIOC_S_FMT: {
        struct v4l2_pix_format *pix = &((struct v4l2_format *)with)->fmt.pix;
        const struct mode *mode = what == VIDIOC_G_FMT ? &camera.mode : find(pix->pixelformat, pix->width, pix->height);
        if (what == VIDIOC_S_FMT && trouble("format")) {
            return fail(trouble("format"));
        }
        camera.mode = what == VIDIOC_S_FMT ? *mode : camera.mode;
        describe(pix, mode);
        return 0;
    }
    case VIDIOC_G_PARM:
    case VIDIOC_S_PARM:
        parameters(with, what == VIDIOC_S_PARM);
        return 0;
    case VIDIOC_REQBUFS:
        return request(with);
    case VIDIOC_QUERYBUF:
        return query(with);
    case VIDIOC_QBUF:
        return enqueue(with);
    case VIDIOC_DQBUF:
        return dequeue(with);
    case VIDIOC_STREAMON:
        return stream(1000000000L / camera.mode.fps);
    case VIDIOC_STREAMOFF:
        return stream(0);
    default:
        return fail(ENOTTY); /* what this camera does not have: inputs, controls, standards, cropping */
    }
}

static int open_device(const char *path, int flags, mode_t mode) {
    static int (*real)(const char *, int, ...);
    const char *device = getenv("PRETEND_DEVICE");
    if (!real) {
        real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open64");
    }
    if (!device || strcmp(path, device) != 0 || !plugged_in()) {
        return real(path, flags, mode);
    }
    if (camera.open > 0 || trouble("open")) {
        return fail(camera.open > 0 ? EBUSY : trouble("open"));
    }
    camera.mode = MODES[0];
    camera.fds[camera.open++] = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    return camera.fds[0];
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    return open_device(path, flags, mode);
}

int open64(const char *path, int flags, ...) __attribute__((alias("open")));

int ioctl(int fd, unsigned long what, ...) {
    static int (*real)(int, unsigned long, ...);
    va_list rest;
    va_start(rest, what);
    void *with = va_arg(rest, void *);
    va_end(rest);
    if (!real) {
        real = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
    }
    return place_of(fd) >= 0 ? answer(what, with) : real(fd, what, with);
}

static void *map(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    static void *(*real)(void *, size_t, int, int, int, off_t);
    if (!real) {
        real = (void *(*)(void *, size_t, int, int, int, off_t))dlsym(RTLD_NEXT, "mmap");
    }
    if (place_of(fd) >= 0 && camera.size > 0) {
        fd = camera.memory[offset / camera.size];
        offset = 0;
    }
    return real(at, length, protection, flags, fd, offset);
}

void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    return map(at, length, protection, flags, fd, offset);
}

void *mmap64(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    return map(at, length, protection, flags, fd, offset);
}

int close(int fd) {
    static int (*real)(int);
    if (!real) {
        real = (int (*)(int))dlsym(RTLD_NEXT, "close");
    }
    int place = place_of(fd);
    if (place >= 0) {
        camera.fds[place] = camera.fds[--camera.open];
        if (camera.open == 0) {
            release();
        }
    }
    return real(fd);
}

int dup(int fd) {
    static int (*real)(int);
    if (!real) {
        real = (int (*)(int))dlsym(RTLD_NEXT, "dup");
    }
    int other = real(fd);
    if (other >= 0 && place_of(fd) >= 0 && camera.open < DESCRIPTORS) {
        camera.fds[camera.open++] = other;
    }
    return other;
}
