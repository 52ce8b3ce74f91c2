//! The model inside a graphics application: the application's own device, its textures, its command encoder.
//!
//! What it teaches: `Context::from_wgpu` adopts a device; a rendered texture goes into a tensor by a compute pass of the
//! application; `Context::encode_into` records our launches into the application's encoder, between its own passes; a tensor is
//! drawn from its buffer. One submission makes the whole frame, and no number passes through the host.
//!
//! Run with `cargo run --release --example 04_embed_in_app`. There is no window: the last frame is saved as a PNG.

use mmae::model::config::{ModelConfig, m2ae_tiny};
use mmae::model::generate::Shown;
use mmae::model::inputs::{HostBatch, Inputs};
use mmae::tape::Tape;
use mmae::train::config::RunConfig;
use mmae::train::trainer::Trainer;
use mmae::{Context, Error, Result, Tensor, wgpu};

/// Side of the model's images; `m2ae-tiny` has 32. The shaders below say so too.
const SIDE: u32 = 32;
/// Side of a picture on the "screen": what was seen on the left, what the model made of it on the right.
const TILE: u32 = 128;
/// Frames that the model learns from, a step for each, before the one that it is shown in.
const FRAMES: u64 = 80;

const SHADERS: &str = "
@group(0) @binding(0) var<uniform> angle: f32;
@group(0) @binding(1) var seen: texture_2d<f32>;
@group(0) @binding(2) var<storage, read_write> image: array<f32>; // (1, 3, 32, 32): planes of red, green, blue
@group(0) @binding(3) var<storage, read> made: array<f32>; // (1, 3, 32, 32)

// One triangle that covers the target.
@vertex
fn cover(@builtin(vertex_index) i: u32) -> @builtin(position) vec4<f32> {
    return vec4<f32>(f32(i / 2u) * 4.0 - 1.0, f32(i % 2u) * 4.0 - 1.0, 0.0, 1.0);
}

// The application's scene: a sun over the sea, in the light of the hour.
@fragment
fn scene(@builtin(position) at: vec4<f32>) -> @location(0) vec4<f32> {
    let here = at.xy / 32.0 - 0.5;
    let light = 0.5 + 0.4 * vec3<f32>(cos(angle), cos(angle + 2.0), cos(angle + 4.0));
    let dark = vec3<f32>(0.05, 0.1, 0.2);
    let sky = mix(dark, light, select(0.5 + here.y, 0.15, here.y > 0.2));
    let outside = smoothstep(0.16, 0.22, distance(here, vec2<f32>(0.1, -0.1)));
    return vec4<f32>(mix(vec3<f32>(1.0) - 0.3 * light, sky, outside), 1.0);
}

// Texture to tensor.
@compute @workgroup_size(8, 8)
fn take(@builtin(global_invocation_id) id: vec3<u32>) {
    let colour = textureLoad(seen, id.xy, 0);
    let pixel = id.y * 32u + id.x;
    image[pixel] = colour.r;
    image[1024u + pixel] = colour.g;
    image[2048u + pixel] = colour.b;
}

// Tensor to screen, beside the texture.
@fragment
fn show(@builtin(position) at: vec4<f32>) -> @location(0) vec4<f32> {
    let cell = vec2<u32>(at.xy) / 4u;
    if (cell.x < 32u) {
        return textureLoad(seen, cell, 0);
    }
    let pixel = cell.y * 32u + cell.x - 32u;
    return vec4<f32>(made[pixel], made[1024u + pixel], made[2048u + pixel], 1.0);
}
";

const FORMAT: wgpu::TextureFormat = wgpu::TextureFormat::Rgba8Unorm;

/// What any application has.
struct App {
    adapter: wgpu::Adapter,
    device: wgpu::Device,
    queue: wgpu::Queue,
    angle: wgpu::Buffer,
    seen: wgpu::TextureView,
    screen: wgpu::Texture,
    scene: wgpu::RenderPipeline,
    take: wgpu::ComputePipeline,
    show: wgpu::RenderPipeline,
}

impl App {
    fn new() -> Result<Self> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle().with_env());
        let missing = |reason: String| Error::NoAdapter { wanted: "the application's".into(), tried: reason };
        let adapter = pollster::block_on(wgpu::util::initialize_adapter_from_env_or_default(&instance, None))
            .map_err(|error| missing(error.to_string()))?;
        // No optional feature at all: the engine makes do.
        let descriptor = wgpu::DeviceDescriptor { required_limits: adapter.limits(), ..Default::default() };
        let (device, queue) =
            pollster::block_on(adapter.request_device(&descriptor)).map_err(|error| missing(error.to_string()))?;
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(SHADERS.into()),
        });
        let take = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: Some("take"),
            compilation_options: Default::default(),
            cache: None,
        });
        let angle = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 16,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let target = wgpu::TextureUsages::RENDER_ATTACHMENT;
        Ok(Self {
            seen: texture(&device, SIDE, SIDE, target | wgpu::TextureUsages::TEXTURE_BINDING)
                .create_view(&Default::default()),
            screen: texture(&device, 2 * TILE, TILE, target | wgpu::TextureUsages::COPY_SRC),
            scene: drawing(&device, &module, "scene"),
            show: drawing(&device, &module, "show"),
            take,
            angle,
            adapter,
            device,
            queue,
        })
    }

    fn bind(&self, layout: &wgpu::BindGroupLayout, resources: &[(u32, wgpu::BindingResource<'_>)]) -> wgpu::BindGroup {
        let entries: Vec<_> = resources
            .iter()
            .map(|(binding, resource)| wgpu::BindGroupEntry { binding: *binding, resource: resource.clone() })
            .collect();
        self.device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries })
    }

    /// The scene into `seen`, and from there into the model's input.
    fn look(&self, encoder: &mut wgpu::CommandEncoder, angle: f32, image: &Tensor) -> Result<()> {
        self.queue.write_buffer(&self.angle, 0, &angle.to_le_bytes());
        let group = self.bind(&self.scene.get_bind_group_layout(0), &[(0, self.angle.as_entire_binding())]);
        draw(encoder, &self.seen, &self.scene, &group);
        let bindings = [(1, wgpu::BindingResource::TextureView(&self.seen)), (2, binding(image)?)];
        let group = self.bind(&self.take.get_bind_group_layout(0), &bindings);
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&self.take);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(SIDE / 8, SIDE / 8, 1);
        Ok(())
    }

    /// What was seen, and the tensor `made`, on the screen.
    fn present(&self, encoder: &mut wgpu::CommandEncoder, made: &Tensor) -> Result<()> {
        let bindings = [(1, wgpu::BindingResource::TextureView(&self.seen)), (3, binding(made)?)];
        let group = self.bind(&self.show.get_bind_group_layout(0), &bindings);
        draw(encoder, &self.screen.create_view(&Default::default()), &self.show, &group);
        Ok(())
    }

    /// A screenshot: RGBA bytes, row by row.
    fn screenshot(&self) -> Result<Vec<u8>> {
        let row = 2 * TILE * 4;
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: u64::from(row * TILE),
            usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            mapped_at_creation: false,
        });
        let layout = wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(row), rows_per_image: None };
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_texture_to_buffer(
            self.screen.as_image_copy(),
            wgpu::TexelCopyBufferInfo { buffer: &buffer, layout },
            self.screen.size(),
        );
        self.queue.submit([encoder.finish()]);
        buffer.slice(..).map_async(wgpu::MapMode::Read, |_| {});
        let lost = |reason: String| Error::DeviceLost { reason };
        self.device.poll(wgpu::PollType::wait_indefinitely()).map_err(|error| lost(error.to_string()))?;
        let pixels = buffer.slice(..).get_mapped_range().map_err(|error| lost(error.to_string()))?;
        Ok(pixels.to_vec())
    }
}

fn texture(device: &wgpu::Device, width: u32, height: u32, usage: wgpu::TextureUsages) -> wgpu::Texture {
    device.create_texture(&wgpu::TextureDescriptor {
        label: None,
        size: wgpu::Extent3d { width, height, depth_or_array_layers: 1 },
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format: FORMAT,
        usage,
        view_formats: &[],
    })
}

/// A pipeline that covers its target with what the fragment function `name` draws.
fn drawing(device: &wgpu::Device, module: &wgpu::ShaderModule, name: &str) -> wgpu::RenderPipeline {
    device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
        label: Some(name),
        layout: None,
        vertex: wgpu::VertexState {
            module,
            entry_point: Some("cover"),
            compilation_options: Default::default(),
            buffers: &[],
        },
        primitive: Default::default(),
        depth_stencil: None,
        multisample: Default::default(),
        fragment: Some(wgpu::FragmentState {
            module,
            entry_point: Some(name),
            compilation_options: Default::default(),
            targets: &[Some(FORMAT.into())],
        }),
        multiview_mask: None,
        cache: None,
    })
}

fn draw(
    encoder: &mut wgpu::CommandEncoder,
    target: &wgpu::TextureView,
    pipeline: &wgpu::RenderPipeline,
    group: &wgpu::BindGroup,
) {
    let attachment = wgpu::RenderPassColorAttachment {
        view: target,
        depth_slice: None,
        resolve_target: None,
        ops: wgpu::Operations::default(),
    };
    let mut pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
        color_attachments: &[Some(attachment)],
        ..Default::default()
    });
    pass.set_pipeline(pipeline);
    pass.set_bind_group(0, group, &[]);
    pass.draw(0..3, 0..1);
}

/// A tensor as a binding of the application's own: its buffer is shared, so offset and size count.
fn binding(tensor: &Tensor) -> Result<wgpu::BindingResource<'_>> {
    let buffer = tensor.buffer().ok_or_else(|| Error::shape("binding", "a tensor on a device", tensor.shape()))?;
    let (offset, size) = (tensor.offset(), wgpu::BufferSize::new(tensor.bytes()));
    Ok(wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size }))
}

/// A model in training, and its input: one image without a caption, whose pixels the application writes.
fn model(ctx: &Context) -> Result<(Trainer, Inputs)> {
    // No caption and no masked prediction here: their blocks may go.
    let mut config = RunConfig::new(ModelConfig { text_depth: 0, predictor_depth: 0, ..m2ae_tiny() });
    config.train.batch = 1;
    config.train.steps = FRAMES;
    config.train.lr = 5e-3;
    let trainer = Trainer::new(ctx, &config)?;
    let inputs = trainer.model.inputs(&HostBatch {
        image: &vec![0.0; config.model.pixels()],
        tokens: &vec![0; config.model.text_length],
        has_image: &[true],
        has_text: &[false],
        show_image: &[true],
        show_text: &[false],
    })?;
    ctx.submit()?; // these uploads come before what the application writes
    Ok((trainer, inputs))
}

fn main() -> Result<()> {
    let app = App::new()?;
    let ctx = Context::from_wgpu(&app.adapter, &app.device, &app.queue);
    println!("device: {}", ctx.capabilities().summary());
    let (mut trainer, inputs) = model(&ctx)?;

    // The model learns from what the application renders; frames and steps lie on one queue, in order.
    let hour = |frame: u64| 1.0 + 0.01 * frame as f32;
    for frame in 0..FRAMES {
        let mut encoder = app.device.create_command_encoder(&Default::default());
        app.look(&mut encoder, hour(frame), &inputs.image)?;
        app.queue.submit([encoder.finish()]);
        trainer.step_on(&inputs)?;
    }

    // A frame of the application, its scene, our model, its screen: one encoder, one submission.
    let mut encoder = app.device.create_command_encoder(&Default::default());
    app.look(&mut encoder, hour(FRAMES), &inputs.image)?;
    let made = ctx.encode_into(&mut encoder, || {
        let mut tape = Tape::inference(&ctx);
        let z = trainer.model.latent(&mut tape, &inputs, Shown::Image)?;
        Ok(trainer.model.decode_image(&mut tape, &z)?.value().clone())
    })?;
    app.present(&mut encoder, &made)?;
    app.queue.submit([encoder.finish()]);

    let pixels = app.screenshot()?;
    let path = std::env::temp_dir().join("mmae_04_embed_in_app.png");
    image::save_buffer(&path, &pixels, 2 * TILE, TILE, image::ColorType::Rgba8)
        .map_err(|error| Error::io("write", &path, std::io::Error::other(error)))?;
    println!("seen and reconstructed: {}", path.display());
    check(&pixels)
}

/// The right half must be a picture, and one of what the left half shows.
fn check(pixels: &[u8]) -> Result<()> {
    let halves: Vec<&[u8]> = pixels.chunks(TILE as usize * 4).collect();
    // One channel is enough.
    let green = |which: usize| {
        let rows = halves.iter().skip(which).step_by(2);
        rows.flat_map(|row| row.iter().skip(1).step_by(4).map(|v| f64::from(*v))).collect::<Vec<_>>()
    };
    let (seen, made) = (green(0), green(1));
    let count = made.len() as f64;
    let mean = made.iter().sum::<f64>() / count;
    let spread = (made.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt();
    let error = (seen.iter().zip(&made).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / count).sqrt();
    println!("of 255: the reconstruction varies by {spread:.1} and is off by {error:.1}");
    if spread > 10.0 && error < 20.0 {
        return Ok(());
    }
    Err(Error::Check { what: "04_embed_in_app".into(), detail: format!("varies by {spread:.1}, off by {error:.1}") })
}
