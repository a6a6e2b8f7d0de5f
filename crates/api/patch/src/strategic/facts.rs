//! What the schema says about a member of a patched struct.

use cloudeck_machinery::quote::quote;
use cloudeck_schema::{Field, Scalar, Shape, TypeRef};

use super::StrategicError;

/// The type of a patched object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Type(pub(super) TypeRef);

/// How a member is patched.
pub(super) struct Member {
    element: TypeRef,
    /// A list that is merged.
    pub(super) merge: bool,
    /// A map that is replaced.
    pub(super) replace: bool,
    /// The key by which a list's items are merged; scalars have none.
    pub(super) key: Option<&'static str>,
}

impl Type {
    /// A member that is an object.
    pub(super) fn member(self, name: &str) -> Result<Member, StrategicError> {
        let field = self.field(name)?;
        Ok(Member {
            element: field.ty(),
            merge: field.patch_merge(),
            replace: field.patch_replace(),
            key: field.patch_merge_key(),
        })
    }

    /// A member that is a list; its type is that of the items.
    pub(super) fn list_member(self, name: &str) -> Result<Member, StrategicError> {
        let member = self.member(name)?;
        match member.element.shape() {
            Shape::List { item, .. } => Ok(Member {
                element: item,
                ..member
            }),
            _ => Err(StrategicError::Unfit(format!(
                "expected slice or array type, but got: {}",
                kind(self.0)
            ))),
        }
    }

    fn field(self, name: &str) -> Result<Field, StrategicError> {
        let ty = self.0;
        if !matches!(ty.shape(), Shape::Struct { .. } | Shape::Any) {
            let kind = kind(ty);
            let why = format!("merging an object in json but data type is not struct, instead is: {kind}");
            return Err(StrategicError::Unfit(why));
        }
        let folded = || ty.fields().find(|field| field.name().eq_ignore_ascii_case(name));
        ty.field(name).or_else(folded).ok_or_else(|| {
            let struct_name = ty.name().rsplit('.').next().unwrap_or_default();
            let name = quote(name);
            let why = format!("unable to find api field in struct {struct_name} for the json field {name}");
            StrategicError::Unfit(why)
        })
    }
}

impl Member {
    pub(super) fn ty(&self) -> Type {
        Type(self.element)
    }

    pub(super) fn kind(&self) -> &'static str {
        kind(self.element)
    }
}

/// Go's word for what a type is made of.
fn kind(ty: TypeRef) -> &'static str {
    match ty.shape() {
        Shape::Map { .. } => "map",
        Shape::List { .. } | Shape::Scalar(Scalar::Bytes) => "slice",
        Shape::Scalar(Scalar::String) => "string",
        Shape::Scalar(Scalar::Bool) => "bool",
        Shape::Scalar(Scalar::Int32) => "int32",
        Shape::Scalar(Scalar::Int64 | Scalar::Duration) => "int64",
        Shape::Scalar(Scalar::Float) => "float64",
        Shape::Struct { .. } | Shape::Any | Shape::Scalar(_) => "struct",
    }
}
